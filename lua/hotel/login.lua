-- Hotel reservation: a random user logs in.
-- Users are Cornell_0 to Cornell_500, each with its number, ten times, as password. The application answers 200
-- whether or not they are right, after the same work.

local random, format = math.random, string.format

function request()
  local id = random(0, 500)
  return wrk.format("POST", format("/user?username=Cornell_%d&password=%s", id, tostring(id):rep(10)))
end
