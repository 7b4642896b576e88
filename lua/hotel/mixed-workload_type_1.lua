-- Hotel reservation, mixed: 60 % search, 39 % recommendation, 0.5 % login, 0.5 % reservation.
-- Reservations change the application's data.

local random, format = math.random, string.format

local function days()
  local in_day = random(9, 23)
  return format("inDate=2015-04-%02d&outDate=2015-04-%02d", in_day, random(in_day + 1, 24))
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
  return wrk.format("GET", "/hotels?" .. days() .. "&" .. place())
end

local function recommend()
  local kinds = { "dis", "rate", "price" }
  return wrk.format("GET", "/recommendations?require=" .. kinds[random(3)] .. "&" .. place())
end

local function login()
  return wrk.format("GET", format("/user?username=%s&password=%s", user()))
end

local function reserve()
  local name, password = user()
  return wrk.format("POST", format("/reservation?%s&%s&hotelId=%d&customerName=%s&username=%s&password=%s&number=1",
                                   days(), place(), random(1, 80), name, name, password))
end

function request()
  local dice = random()
  if dice < 0.600 then return search() end
  if dice < 0.990 then return recommend() end
  if dice < 0.995 then return login() end
  return reserve()
end
