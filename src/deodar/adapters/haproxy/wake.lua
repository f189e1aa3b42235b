-- Holds a request inside HAProxy until the control plane says that its app has a dyno.
-- Asks "wake <backend> <request id>\n" and is answered by one line: "ok", or the H code to show.
-- While nobody answers (the control plane restarts) it asks again: a restart must lose no request.
local control, hosts_file = ...
local LIMIT = 76 -- seconds; the control plane itself ends a hold after 75 with H20
local PAUSE = 200 -- milliseconds between two tries
local QUARANTINE = 10 -- seconds that a request waits while no dyno takes connections
local LOOK = 50 -- milliseconds between two looks at them

local hosts = Map.new(hosts_file, Map._str) -- the one that the rules use

local function now()
  local t = core.now()
  return t.sec + t.usec / 1000000
end

local function ask(question, patience)
  local socket = core.tcp()
  socket:settimeout(math.max(1, math.ceil(patience)))
  local answer
  if socket:connect(control) then
    socket:send(question)
    answer = socket:receive("*l")
  end
  socket:close()
  if answer == "" then return nil end
  return answer
end

-- Where the host leads by now: its app may have been tuned while the request was held.
local function lead(host)
  return hosts:lookup(host) or hosts:lookup((host:gsub("^[^.]+", "*", 1)))
end

local function show(txn, slot, code)
  txn:set_var("txn.slot", code .. "_" .. slot:match("[^_]*$"))
end

core.register_action("wake", { "http-req" }, function(txn)
  local slot = txn:get_var("txn.slot")
  local question = "wake " .. slot .. " " .. txn:get_var("txn.id") .. "\n"
  local finish = now() + LIMIT
  local answer = ask(question, finish - now())
  while not answer and now() < finish do
    core.msleep(PAUSE)
    answer = ask(question, finish - now())
  end
  if answer ~= "ok" then return show(txn, slot, answer or "H20") end
  slot = lead(txn:get_var("txn.host")) or slot
  txn:set_var("txn.slot", slot)
  -- There are dynos, but each has just refused a connection: HAProxy looks whether one recovers.
  finish = now() + QUARANTINE
  while txn.c:nbsrv(slot) == 0 do
    if now() > finish then return show(txn, slot, "H34") end
    core.msleep(LOOK)
  end
end)
