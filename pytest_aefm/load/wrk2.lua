-- Runs a wrk2 script and keeps the accounts that wrk2 does not: what was sent and answered, and how, in the window
-- alone. The global table `aefm` says what this run is; all times are CLOCK_MONOTONIC, in seconds. No request leaves
-- after the window, so that wrk2 ends when the last one is answered.

local ffi = require "ffi"
ffi.cdef [[
struct aefm_time { long seconds, nanoseconds; };
int aefm_clock(int clock, struct aefm_time *now) __asm__("clock_gettime");
int aefm_sleep(int clock, int flags, const struct aefm_time *time, void *rest) __asm__("clock_nanosleep");
]]
local REALTIME, MONOTONIC, THREAD_CPU, ABSOLUTE = 0, 1, 3, 1
local SAMPLE = 0.01 -- how often the backlog is looked at
local ROUNDS = 4 -- of requests of all connections, from which their clocks are learnt
local LATE, MOST = 3, 10 -- delays are counted by powers of two, from 2^3 to 2^10 ms

local run = aefm
local time = ffi.new("struct aefm_time")

local function clock(which)
  ffi.C.aefm_clock(which, time)
  return tonumber(time.seconds) + tonumber(time.nanoseconds) * 1e-9
end

local function sleep(seconds, clock_id, flags)
  local till = ffi.new("struct aefm_time", math.floor(seconds), math.floor(seconds % 1 * 1e9))
  ffi.C.aefm_sleep(clock_id or MONOTONIC, flags or 0, till, nil)
end

local function fail(message)
  io.stderr:write("aefm-script: ", tostring(message), "\n")
  io.stderr:flush()
  os.exit(2)
end

local function guarded(call, ...)
  local good, result = pcall(call, ...)
  if not good then fail(result) end
  return result
end

-- What scripts may expect beyond wrk2.
local folder, name = run.script:match("^(.-)([^/]+)$")
package.path = folder .. "?.lua;" .. package.path
if not pcall(require, "socket") then
  package.loaded.socket = { gettime = function() return clock(REALTIME) end, sleep = sleep }
end
local seed = math.randomseed
seed(run.seed)
math.randomseed = function() end
local format = wrk.format
wrk.format = function(method, path, headers, body)
  if path and path:find("^%a+://") then -- to the target, whatever host the script names
    path = path:gsub("^%a+://[^/?]*", "")
    if path:sub(1, 1) ~= "/" then path = "/" .. path end
  end
  return format(method, path, headers, body)
end

local file, problem = io.open(run.script, "rb")
if not file then fail(problem) end
local chunk, mistake = loadstring(file:read("*a"), "@" .. name)
file:close()
if not chunk then fail(mistake) end
guarded(chunk)
local script = { setup = setup, init = init, request = request, response = response, done = done }
if delay then fail(name .. ":1: delay() is defined, which wrk2 never calls") end

local function next_request()
  local text = guarded(script.request or wrk.request)
  if type(text) ~= "string" or text == "" then fail(name .. ":1: request() returned no request") end
  return text
end

if run.check then
  local thread = { get = function() end, set = function() end, stop = function() end }
  wrk.thread = thread
  if script.setup then guarded(script.setup, thread) end
  guarded(wrk.init, { [0] = run.url })
  for _ = 1, 10 do next_request() end
  os.exit(0)
end

-- How many requests of one thread are due before `till`: each connection is a clock of its own, from its start.
local function due_before(starts, till)
  local count = 0
  for connection = 0, run.connections - 1 do
    local periods = math.ceil((till - starts[connection]) / run.period)
    count = count + math.max(0, periods - (run.first_at_once and 0 or 1))
  end
  return count
end

-- In a thread: the counters are globals, because the main state can read nothing else.
aefm_sent, aefm_answered, aefm_held = 0, 0, 0
aefm_success, aefm_mismatch, aefm_4xx, aefm_5xx, aefm_other = 0, 0, 0, 0, 0
aefm_start, aefm_begin, aefm_stop, aefm_last, aefm_cpu = 0, math.huge, math.huge, 0, -1
for quarter = 1, 4 do _G["aefm_backlog" .. quarter], _G["aefm_samples" .. quarter] = 0, 0 end
for power = LATE, MOST do _G["aefm_late" .. power] = 0 end
local starts, due_in_warmup, due_in_all, verified, blamed = {}, math.huge, math.huge, false, 0
local sampled, cpu_at, cpu_used = 0, nil, nil

local function look(now)
  if now < aefm_begin then return end
  if not cpu_at then
    cpu_at, cpu_used = now, clock(THREAD_CPU)
    due_in_warmup, due_in_all = due_before(starts, aefm_begin), due_before(starts, aefm_stop)
  end
  if now >= aefm_stop then
    if aefm_cpu < 0 and now - cpu_at > 0.1 then aefm_cpu = (clock(THREAD_CPU) - cpu_used) / (now - cpu_at) end
  elseif now - sampled >= SAMPLE then
    sampled = now
    local quarter = math.min(4, math.floor(4 * (now - aefm_begin) / run.duration) + 1)
    local backlog = math.max(0, due_before(starts, now - SAMPLE) - aefm_sent)
    _G["aefm_backlog" .. quarter] = _G["aefm_backlog" .. quarter] + backlog
    _G["aefm_samples" .. quarter] = _G["aefm_samples" .. quarter] + 1
  end
end

local function due_at(index)
  local round = math.floor(index / run.connections) + (run.first_at_once and 0 or 1)
  return starts[index % run.connections] + round * run.period, round
end

-- A connection starts when wrk2 wakes, which may be a second late, and keeps its clock from then on. The first rounds
-- tell: a request is never early, and one of them is in time.
local function learn(now)
  if not run.regular or run.warmup == 0 or aefm_sent >= ROUNDS * run.connections then return end
  local connection, _, round = aefm_sent % run.connections, due_at(aefm_sent)
  local start = now - round * run.period
  if aefm_sent < run.connections or start < starts[connection] then
    starts[connection], _G["aefm_start" .. connection] = start, start
  end
end

-- While nothing is in flight every connection is free: whatever is due and unsent then is late by wrk2's own fault.
local function blame(now)
  if not run.regular or now < aefm_begin or aefm_answered < aefm_sent then return end
  local due = due_before(starts, math.min(now, aefm_stop))
  for index = math.max(aefm_sent, blamed, due_in_warmup), due - 1 do
    local delay_ms = math.max(1e-3, (now - due_at(index)) * 1000)
    local power = math.min(MOST, math.floor(math.log(delay_ms) / math.log(2)))
    if power >= LATE then _G["aefm_late" .. power] = _G["aefm_late" .. power] + 1 end
  end
  blamed = math.max(blamed, due)
end

local function over(now)
  return now >= aefm_stop and (now >= aefm_stop + run.grace or aefm_sent >= due_in_all)
end

local function rest(now)
  if over(now) and aefm_answered >= aefm_sent then wrk.thread:stop() end
end

-- A script may set its functions anew while it runs.
local own = {}
local function adopt()
  for _, name in ipairs { "request", "response" } do
    if _G[name] ~= own[name] then script[name], _G[name] = _G[name], own[name] end
  end
end

function init(arguments)
  own.request, own.response = request, response
  seed(run.seed + 7919 * aefm_index)
  if script.init then guarded(script.init, arguments) end
  adopt()
  if clock(MONOTONIC) < run.start then sleep(run.start, MONOTONIC, ABSOLUTE) end
  aefm_start = clock(MONOTONIC)
  aefm_begin = aefm_start + run.warmup
  aefm_stop = aefm_begin + run.duration
  for connection = 0, run.connections - 1 do
    starts[connection] = aefm_start + connection * run.stagger
    _G["aefm_start" .. connection] = starts[connection]
  end
end

function request()
  if aefm_index == 0 and not verified then -- wrk2 tries the first thread's script before it starts
    verified = true
    return next_request()
  end
  local now = clock(MONOTONIC)
  aefm_last = now
  learn(now)
  look(now)
  blame(now)
  if over(now) then
    rest(now)
    return "" -- wrk2 writes nothing, and the connection stays quiet
  end
  aefm_sent = aefm_sent + 1
  return next_request()
end

function response(status, headers, body)
  local now = clock(MONOTONIC)
  aefm_last, aefm_answered = now, aefm_answered + 1
  look(now)
  local verdict
  if script.response then
    verdict = guarded(script.response, status, headers, body)
    adopt()
  end
  if now >= aefm_begin then aefm_held = aefm_held + 1 end -- wrk2's histogram holds it
  if aefm_answered > due_in_warmup then -- requests are answered in the order in which they were due, by and large
    if verdict == true then aefm_success = aefm_success + 1
    elseif verdict == false then aefm_mismatch = aefm_mismatch + 1
    elseif status >= 200 and status < 400 then aefm_success = aefm_success + 1
    elseif status >= 400 and status < 500 then aefm_4xx = aefm_4xx + 1
    elseif status >= 500 and status < 600 then aefm_5xx = aefm_5xx + 1
    else aefm_other = aefm_other + 1 end
  end
  rest(now)
end

-- In the main state.
local threads, wall = {}, clock(REALTIME) - clock(MONOTONIC)

function setup(thread)
  thread:set("aefm_index", #threads)
  threads[#threads + 1] = thread
  if script.setup then guarded(script.setup, thread) end
end

-- The distinct values of wrk2's histogram, each with its count: it answers for one rank at a time.
local function distinct(latency)
  local found, rank, count = {}, 1, #latency
  while rank <= count do
    local value, low, step = latency[rank], rank, 1
    while low + step <= count and latency[low + step] == value do low, step = low + step, step * 2 end
    while step >= 1 do
      if low + step <= count and latency[low + step] == value then low = low + step end
      step = math.floor(step / 2)
    end
    found[#found + 1] = string.format("[%d,%d]", value, low - rank + 1)
    rank = low + 1
  end
  return "[" .. table.concat(found, ",") .. "]"
end

local FIELDS = { "start", "begin", "stop", "last", "cpu", "sent", "answered", "held" }
for _, outcome in ipairs { "success", "mismatch", "4xx", "5xx", "other" } do FIELDS[#FIELDS + 1] = outcome end
for quarter = 1, 4 do
  FIELDS[#FIELDS + 1], FIELDS[#FIELDS + 2] = "backlog" .. quarter, "samples" .. quarter
end

for power = LATE, MOST do FIELDS[#FIELDS + 1] = "late" .. power end

local function account(thread, now)
  local clocks = {}
  for connection = 0, run.connections - 1 do clocks[connection] = thread:get("aefm_start" .. connection) end
  local due = due_before(clocks, math.min(thread:get("aefm_stop"), now))
  local parts = { string.format('"due":%d,"due_in_warmup":%d', due, due_before(clocks, thread:get("aefm_begin"))) }
  for _, field in ipairs(FIELDS) do
    parts[#parts + 1] = string.format('"%s":%.9f', field, thread:get("aefm_" .. field))
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

function done(summary, latency, requests)
  local accounts, errors = {}, {}
  local now = clock(MONOTONIC)
  for index, thread in ipairs(threads) do accounts[index] = account(thread, now) end
  for _, kind in ipairs { "connect", "read", "write", "status", "timeout" } do
    errors[#errors + 1] = string.format('"%s":%d', kind, summary.errors[kind])
  end
  local result, trouble = io.open(run.result, "w")
  if not result then fail(trouble) end
  result:write(string.format(
    '{"schema":1,"ended":%.9f,"wall":%.9f,"clock_step":%.9f,"errors":{%s},"threads":[%s],"latency":%s}\n',
    now, wall, clock(REALTIME) - clock(MONOTONIC) - wall, table.concat(errors, ","),
    table.concat(accounts, ","), distinct(latency)))
  result:close()
  if script.done then guarded(script.done, summary, latency, requests) end
end
