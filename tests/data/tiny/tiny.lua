function request() return wrk.format("GET", "/ok") end
