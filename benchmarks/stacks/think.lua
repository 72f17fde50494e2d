-- wrk: POST one body again and again, each connection after a pause drawn anew (exponential, THINK_MS on average), so that
-- many connections make nearly Poisson arrivals; print counts and latencies as JSON. Refusals (503) are answered faster than
-- any prediction, so percentiles of the predictions are those of the answers above the refused share.
local file = io.open(os.getenv("BODY"), "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
wrk.headers["Content-Type"] = "application/json"
local think = tonumber(os.getenv("THINK_MS"))
math.randomseed(tonumber(os.getenv("SEED")))

function delay()
  return math.floor(0.5 - think * math.log(1 - math.random()))
end

function done(summary, latency, requests)
  local refused = summary.errors.status / math.max(1, summary.requests)
  local function percentile(p)
    return latency:percentile(math.min(99.999, 100 * (refused + p * (1 - refused)))) / 1e3
  end
  local e = summary.errors
  io.write(string.format(
    'JSON{"requests":%d,"seconds":%f,"mean_ms":%f,"p50_ms":%f,"p95_ms":%f,"p99_ms":%f,"not_2xx":%d,"broken":%d}\n',
    summary.requests, summary.duration / 1e6, latency.mean / 1e3, percentile(0.5), percentile(0.95), percentile(0.99),
    e.status, e.connect + e.read + e.write + e.timeout))
end
