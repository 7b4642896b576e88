-- Hotel reservation: search for hotels near a random place on random days of April 2015.
-- The value ranges are those of the data that the application seeds itself with.

local random, format = math.random, string.format

function request()
  local in_day = random(9, 23)
  local out_day = random(in_day + 1, 24)
  local lat = 38.0235 + (random(0, 481) - 240.5) / 1000
  local lon = -122.095 + (random(0, 325) - 157.0) / 1000
  return wrk.format("GET", format("/hotels?inDate=2015-04-%02d&outDate=2015-04-%02d&lat=%.4f&lon=%.4f",
                                  in_day, out_day, lat, lon))
end
