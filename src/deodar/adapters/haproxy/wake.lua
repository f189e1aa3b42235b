-- Holds a request inside HAProxy until the control plane says that its app has a dyno.
-- Asks "wake <slot> <request id>\n" and is answered by one line: "ok", or the H code to show.
-- While nobody answers (the control plane restarts) it asks again: a restart must lose no request.
local control = ...
local LIMIT = 76 -- seconds; the control plane itself ends a hold after 75 with H20
local PAUSE = 200 -- milliseconds between two tries

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

core.register_action("wake", { "http-req" }, function(txn)
  local question = "wake " .. txn:get_var("txn.slot") .. " " .. txn:get_var("txn.id") .. "\n"
  local finish = now() + LIMIT
  local answer = ask(question, finish - now())
  while not answer and now() < finish do
    core.msleep(PAUSE)
    answer = ask(question, finish - now())
  end
  if answer ~= "ok" then txn:set_var("txn.code", answer or "H20") end
end)
