-- Hotel reservation: recommend hotels near a random place, by distance, rating or price.

local random, format = math.random, string.format

function request()
  local dice = random()
  local by = dice < 0.33 and "dis" or dice < 0.66 and "rate" or "price"
  local lat = 38.0235 + (random(0, 481) - 240.5) / 1000
  local lon = -122.095 + (random(0, 325) - 157.0) / 1000
  return wrk.format("GET", format("/recommendations?require=%s&lat=%.4f&lon=%.4f", by, lat, lon))
end
