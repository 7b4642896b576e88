-- Hotel reservation, mixed: 60 % search, 39 % recommendation, 0.5 % login, 0.5 % reservation.
-- The same requests as those of the scripts beside it, which stand alone so that any wrk2 runs them.

mutates = true -- the reservations; pytest-aefm records how many such loads the application's data has seen

local random, format = math.random, string.format

local function days(in_day, out_day)
  return format("inDate=2015-04-%02d&outDate=2015-04-%02d", in_day, out_day)
end

local function place()
  return format("lat=%.4f&lon=%.4f", 38.0235 + (random(0, 481) - 240.5) / 1000,
                -122.095 + (random(0, 325) - 157.0) / 1000)
end

-- Users are seeded as Cornell_N with the number N, ten times, as password.
local function user()
  local id = random(0, 500)
  return "Cornell_" .. id, tostring(id):rep(10)
end

local function search()
  local in_day = random(9, 23)
  return wrk.format("GET", "/hotels?" .. days(in_day, random(in_day + 1, 24)) .. "&" .. place())
end

local function recommend()
  local dice = random()
  local by = dice < 0.33 and "dis" or dice < 0.66 and "rate" or "price"
  return wrk.format("GET", "/recommendations?require=" .. by .. "&" .. place())
end

local function login()
  return wrk.format("POST", format("/user?username=%s&password=%s", user()))
end

local function reserve()
  local in_day = random(9, 23)
  local name, password = user()
  return wrk.format("POST", format("/reservation?%s&hotelId=%d&customerName=%s&username=%s&password=%s&number=1",
                                   days(in_day, in_day + random(1, 5)), random(1, 80), name, name, password))
end

function request()
  local dice = random()
  if dice < 0.600 then return search() end
  if dice < 0.990 then return recommend() end
  if dice < 0.995 then return login() end
  return reserve()
end
