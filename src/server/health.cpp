#include "server/health.h"

#include "base/format.h"
#include "base/json.h"

namespace moestro::server {

Response health_response(const engine::EngineStats& stats, double stall_seconds, bool draining) {
  const bool work = stats.running + stats.waiting > 0;
  const bool stalled = work && stats.seconds_since_progress > stall_seconds;
  json::object body{{"status", stalled                      ? "stalled"
                               : draining || stats.draining ? "draining"
                                                            : "ok"},
                    {"running", stats.running},
                    {"waiting", stats.waiting},
                    {"steps", stats.steps}};
  if (stalled) {
    body["message"] = format("no step has ended for {:.1f} s while there is work (limit {:.1f} s)",
                             stats.seconds_since_progress, stall_seconds);
  }
  Response response;
  response.status = stalled || draining || stats.draining ? 503 : 200;
  response.body = json::dump(body);
  return response;
}

}  // namespace moestro::server
