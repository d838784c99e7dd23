-- What every script shares: one target a thread, and one line of JSON at the end.
-- BENCH_TARGETS has addresses (host:port) with commas between them; threads take them in turn.

local targets = {}
for target in os.getenv("BENCH_TARGETS"):gmatch("[^,]+") do
  targets[#targets + 1] = target
end
local threads = 0

function setup(thread)
  local target = targets[threads % #targets + 1]
  local host, port = target:match("^(.*):(%d+)$")
  thread.addr = wrk.lookup(host, port)[1]
  thread:set("target", target)
  thread:set("number", threads)
  threads = threads + 1
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\n{"operations":%d,"seconds":%.6f,"received_bytes":%d,"failed":%d,"p50_ms":%.3f,"p99_ms":%.3f}\n',
    summary.requests, summary.duration / 1e6, summary.bytes,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
