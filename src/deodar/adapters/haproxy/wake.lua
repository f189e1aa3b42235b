-- Holds a request inside HAProxy until the control plane says that its app has a dyno.
-- Asks "wake <backend> <request id>\n" and is answered by one line: "ok", and maybe how deep the app slept,
-- or the H code to show.
-- While nobody answers (the control plane restarts) it asks again: a restart must lose no request.
local control, hosts_file = ...
local LIMIT = 76 -- seconds; the control plane itself ends a hold after 75 with H20
local DOWN = 30 -- seconds until H99 while nobody is there to be asked
local PAUSE = 200 -- milliseconds between two tries
local QUARANTINE = 10 -- seconds that a request waits while no dyno takes connections
local LOOK = 50 -- milliseconds between two looks at them

local hosts = Map.new(hosts_file, Map._str) -- the one that the rules use

local function now()
  local t = core.now()
  return t.sec + t.usec / 1000000
end

-- The answer, and whether somebody was there.
local function ask(question, patience)
  local socket = core.tcp()
  socket:settimeout(math.max(1, math.ceil(patience)))
  local answer
  local there = socket:connect(control)
  if there then
    socket:send(question)
    answer = socket:receive("*l")
  end
  socket:close()
  if answer == "" then answer = nil end
  return answer, there
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
  local begin = now()
  local finish, given_up = begin + LIMIT, begin + DOWN
  local answer, there = ask(question, LIMIT)
  while not answer and now() < finish do
    if there then given_up = now() + DOWN elseif now() > given_up then answer = "H99" break end
    core.msleep(PAUSE)
    answer, there = ask(question, finish - now())
  end
  local word, depth = (answer or "H99"):match("^(%S+) ?(%S*)$")
  if word ~= "ok" then return show(txn, slot, word or "H99") end
  if depth ~= "" then
    local note = depth .. ":" .. math.floor((now() - begin) * 1000)
    txn:set_var("txn.note", note)
    if txn.f:req_hdr("deodar-wake") then txn:set_var("txn.woke", note) end
  end
  slot = lead(txn:get_var("txn.host")) or slot
  txn:set_var("txn.slot", slot)
  -- There are dynos, but each has just refused a connection: HAProxy looks whether one recovers.
  finish = now() + QUARANTINE
  while txn.c:nbsrv(slot) == 0 do
    if now() > finish then return show(txn, slot, "H34") end
    core.msleep(LOOK)
  end
end)
