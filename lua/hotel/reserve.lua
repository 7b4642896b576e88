-- Hotel reservation: a random user reserves one room of a random hotel for one to five nights of April 2015.
-- A hotel has 200 to 300 rooms for each night; once they are gone the application still answers 200, without a write.

mutates = true -- pytest-aefm records how many such loads the application's data has seen

local random, format = math.random, string.format

function request()
  local in_day = random(9, 23)
  local out_day = in_day + random(1, 5)
  local id = random(0, 500)
  local user = "Cornell_" .. id
  return wrk.format("POST", format("/reservation?inDate=2015-04-%02d&outDate=2015-04-%02d&hotelId=%d&customerName=%s" ..
                                   "&username=%s&password=%s&number=1",
                                   in_day, out_day, random(1, 80), user, user, tostring(id):rep(10)))
end
