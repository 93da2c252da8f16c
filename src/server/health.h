// Health means forward progress: red when a step stalls while there is work, and while the server
// drains. Any thread.
#pragma once
#include "engine/engine.h"
#include "server/http/http.h"

namespace moestro::server {

Response health_response(const engine::EngineStats& stats, double stall_seconds, bool draining);

}  // namespace moestro::server
