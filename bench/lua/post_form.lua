-- POSTs forms whose file of BENCH_SIZE bytes is another one each time: random bytes that do not
-- compress, led by BENCH_SEED (once a run), the thread's number and a counter.

dofile(os.getenv("BENCH_LUA") .. "/common.lua")

local BOUNDARY = "----bench-boundary-5c1d0b7e"
local before, between, after
local counter = 0

function init(_)
  local seed = os.getenv("BENCH_SEED")
  math.randomseed(tonumber(seed:sub(1, 8), 16) + number)
  local lead = string.format("%s-%03d-", seed, number)
  local filler = {}
  for i = 1, tonumber(os.getenv("BENCH_SIZE")) - #lead - 10 do
    filler[i] = string.char(math.random(0, 255))
  end
  local part = "--" .. BOUNDARY .. '\r\nContent-Disposition: form-data; name="file"; filename="'
  between = '.bin"\r\nContent-Type: application/octet-stream\r\n\r\n' .. lead
  after = table.concat(filler) .. "\r\n--" .. BOUNDARY .. "--\r\n"
  local length = #part + 10 + #between + 10 + #after
  before = "POST /upload HTTP/1.1\r\nHost: " .. target
    .. "\r\nContent-Type: multipart/form-data; boundary=" .. BOUNDARY
    .. "\r\nContent-Length: " .. length .. "\r\n\r\n" .. part
end

function request()
  counter = counter + 1
  local name = string.format("%010d", counter)
  return before .. name .. between .. name .. after
end
