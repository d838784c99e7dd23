-- GETs the paths that the file BENCH_PATHS has, one a line, in turn; each thread begins elsewhere.

dofile(os.getenv("BENCH_LUA") .. "/common.lua")

local requests = {}
local index = 0

function init(_)
  for path in io.lines(os.getenv("BENCH_PATHS")) do
    requests[#requests + 1] = "GET " .. path .. " HTTP/1.1\r\nHost: " .. target .. "\r\n\r\n"
  end
  index = number * math.floor(#requests / 2)
end

function request()
  index = index % #requests + 1
  return requests[index]
end
