#include "server/api.h"

#include <algorithm>

#include "base/format.h"
#include "base/log.h"
#include "base/strings.h"
#include "server/auth.h"
#include "server/health.h"
#include "server/limits.h"
#include "server/openai/error.h"
#include "server/random_id.h"

namespace moestro::server {
namespace {

using openai::ApiError;

enum class Route {
  kChat,
  kCompletions,
  kModels,
  kModel,
  kPlan,
  kHealth,
  kPing,
  kVersion,
  kMetrics,
  kLoad,
  kResetPrefixCache,
  kLanding
};

struct RouteEntry {
  std::string_view path;
  Route route;
  bool get, post;
};
constexpr RouteEntry kRoutes[] = {
    {"/v1/chat/completions", Route::kChat, false, true},
    {"/v1/completions", Route::kCompletions, false, true},
    {"/v1/models", Route::kModels, true, false},
    {"/v1/plan", Route::kPlan, true, false},
    {"/health", Route::kHealth, true, false},
    {"/ping", Route::kPing, true, true},
    {"/version", Route::kVersion, true, false},
    {"/metrics", Route::kMetrics, true, false},
    {"/load", Route::kLoad, true, false},
    {"/reset_prefix_cache", Route::kResetPrefixCache, false, true},
    {"/", Route::kLanding, true, false},
};
constexpr std::string_view kModelPrefix = "/v1/models/";
constexpr RouteEntry kModelRoute{kModelPrefix, Route::kModel, true, false};

const RouteEntry* find_route(std::string_view path) {
  for (const RouteEntry& r : kRoutes) {
    if (r.path == path ||
        (path.size() == r.path.size() + 1 && path.back() == '/' && path.starts_with(r.path)))
      return &r;
  }
  if (path.starts_with(kModelPrefix) && path.size() > kModelPrefix.size()) return &kModelRoute;
  return nullptr;
}

std::string allowed_methods(const RouteEntry& r) {
  std::string out = r.get ? "GET, HEAD, " : "";
  if (r.post) out += "POST, ";
  return out + "OPTIONS";
}

bool is_plain_id(std::string_view id) {
  return !id.empty() && id.size() <= kMaxRequestIdBytes &&
         std::all_of(id.begin(), id.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

bool contains(const std::vector<std::string>& list, std::string_view value) {
  return std::any_of(list.begin(), list.end(),
                     [&](const std::string& s) { return s == "*" || s == value; });
}

Response json_response(const json::value& body) {
  Response r;
  r.body = json::dump(body);
  return r;
}

}  // namespace

Api::Api(const config::ServerOptions& options, const config::LogOptions& log,
         const ServerModel& model, TextPool& pool, MetricsRegistry& metrics)
    : options_(options),
      log_(log),
      model_(model),
      pool_(pool),
      metrics_(metrics),
      prompts_(openai::make_prompt_context(model, options)),
      grammars_(model),
      generations_{.prompts = prompts_,
                   .pool = pool,
                   .grammars = grammars_,
                   .log_requests = log.enable_log_requests,
                   .log_outputs = log.enable_log_outputs,
                   .max_log_chars =
                       static_cast<size_t>(std::max<int64_t>(0, log.max_log_len.value_or(1024)))} {}

std::string_view Api::route_path(const Request& head) const {
  std::string_view path = head.path;
  if (options_.root_path && !options_.root_path->empty()) {
    std::string_view root = *options_.root_path;
    while (root.ends_with('/')) root.remove_suffix(1);
    if (path.starts_with(root) && (path.size() == root.size() || path[root.size()] == '/'))
      path.remove_prefix(root.size());
    if (path.empty()) path = "/";
  }
  return path;
}

Response Api::unknown_route(std::string_view path) const {
  std::vector<std::string_view> known;
  for (const RouteEntry& r : kRoutes) {
    if (r.path != "/") known.push_back(r.path);
  }
  std::string message = format("There is no {}.", json::quote(path.substr(0, 200)));
  std::optional<std::string_view> near = nearest(path, known);
  for (std::string_view k : known) {  // the usual slip: a base URL without /v1
    if (!near && k.starts_with("/v1") && k.substr(3) == path) near = k;
  }
  if (near) {
    message += format(" Did you mean {}?", *near);
  } else {
    message += " The API is at /v1/chat/completions, /v1/completions and /v1/models.";
  }
  return openai::error_response({404, message, {}, "unknown_route"});
}

std::optional<Response> Api::admit(Request& head) {
  const std::string_view given = head.header("x-request-id");
  head.id = is_plain_id(given) ? std::string(given) : random_id();
  const std::string_view path = route_path(head);
  const RouteEntry* route = find_route(path);
  if (head.method == "OPTIONS" && (route || path == "*"))
    return preflight(head, route ? allowed_methods(*route) : "GET, HEAD, POST, OPTIONS");
  if (!route) return unknown_route(path);
  const bool get = head.method == "GET" || head.method == "HEAD";
  if (!(get && route->get) && !(head.method == "POST" && route->post)) {
    Response r = openai::error_response(
        {405,
         format("{} {} is not possible; allowed: {}", head.method.substr(0, 32), route->path,
                allowed_methods(*route)),
         {},
         "method_not_allowed"});
    r.headers.push_back({"Allow", allowed_methods(*route)});
    return r;
  }
  const bool needs_key = path.starts_with("/v1") || route->route == Route::kResetPrefixCache;
  if (needs_key && !authorized(head.header("authorization"), options_.api_keys)) {
    return openai::error_response(
        {401,
         "This server wants an API key: send \"Authorization: Bearer <key>\" with one of its keys.",
         {},
         "invalid_api_key"});
  }
  if (route->route == Route::kChat || route->route == Route::kCompletions) {
    if (draining_) {
      Response r = openai::error_response({503, "the server is shutting down", {}, "draining"});
      r.close = true;
      return r;
    }
    // Also what keeps a web page from posting here without a CORS preflight.
    const std::string type =
        lower(trim(head.header("content-type").substr(0, head.header("content-type").find(';'))));
    if (type != "application/json") {
      return openai::error_response(
          {415,
           format("Content-Type must be application/json, got {}",
                  type.empty() ? "none" : json::quote(type.substr(0, 64))),
           {},
           "unsupported_media_type"});
    }
  }
  if (route->route == Route::kLoad && !options_.enable_server_load_tracking) {
    return openai::error_response(
        {404, "/load needs --enable-server-load-tracking", {}, "unknown_route"});
  }
  return std::nullopt;
}

void Api::handle(Request request, std::shared_ptr<Responder> responder) {
  const std::string_view path = route_path(request);
  const RouteEntry* route = find_route(path);
  switch (route->route) {
    case Route::kChat:
    case Route::kCompletions: {
      ++load_;
      const Endpoint endpoint =
          route->route == Route::kChat ? Endpoint::kChat : Endpoint::kCompletions;
      return Generation::start(generations_, endpoint, std::move(request), std::move(responder));
    }
    case Route::kModels:
      return responder->send(models({}));
    case Route::kModel:
      return responder->send(models(path.substr(kModelPrefix.size())));
    case Route::kPlan:  // counts of every layer are added up: not on an I/O thread
      pool_.post(TextPool::Lane::kEvents,
                 [this, responder] { responder->send(json_response(model_.plan())); });
      return;
    case Route::kHealth:
    case Route::kPing:
      return responder->send(
          health_response(model_.engine->stats(), model_.stall_seconds, draining_));
    case Route::kVersion:
      return responder->send(json_response(json::object{{"version", model_.version}}));
    case Route::kLoad:
      return responder->send(json_response(json::object{{"server_load", load_.load()}}));
    case Route::kResetPrefixCache:
      model_.engine->reset_prefix_cache();
      return responder->send(json_response(json::object{}));
    case Route::kLanding:
      return responder->send(landing());
    case Route::kMetrics:  // long text under the registry's lock: not on an I/O thread
      pool_.post(TextPool::Lane::kEvents, [this, responder] {
        Response r;
        r.content_type = "text/plain; version=0.0.4; charset=utf-8";
        r.body = metrics_.expose();
        responder->send(std::move(r));
      });
      return;
  }
}

Response Api::refuse(const Request&, int status, std::string_view message) {
  Response r = openai::error_response({status, std::string(message), {}, {}});
  r.close = true;
  return r;
}

const std::string* Api::allowed_origin(const Request& head, std::string& storage) const {
  const std::string_view origin = head.header("origin");
  if (origin.empty() || !contains(options_.allowed_origins, origin)) return nullptr;
  // With credentials the wildcard is not allowed by browsers: the origin itself is named.
  const bool any = contains(options_.allowed_origins, "*") && !options_.allow_credentials;
  storage = any ? "*" : std::string(origin);
  return &storage;
}

void Api::decorate(const Request& head, Response& response) {
  response.headers.push_back({"X-Request-Id", head.id.empty() ? random_id() : head.id});
  std::string storage;
  if (const std::string* origin = allowed_origin(head, storage)) {
    response.headers.push_back({"Access-Control-Allow-Origin", *origin});
    response.headers.push_back({"Access-Control-Expose-Headers", "X-Request-Id"});
    if (options_.allow_credentials)
      response.headers.push_back({"Access-Control-Allow-Credentials", "true"});
    if (*origin != "*") response.headers.push_back({"Vary", "Origin"});
  }
}

Response Api::preflight(const Request& head, std::string_view allow) const {
  Response r;
  r.status = 204;
  r.content_type.clear();
  r.headers.push_back({"Allow", std::string(allow)});
  const std::string_view method = head.header("access-control-request-method");
  if (method.empty()) return r;
  std::string storage;
  if (!allowed_origin(head, storage))
    return openai::error_response(
        {403, "this origin is not allowed (--allowed-origins)", {}, "origin_not_allowed"});
  if (!contains(options_.allowed_methods, method))
    return openai::error_response(
        {403, "this method is not allowed (--allowed-methods)", {}, "method_not_allowed"});
  r.headers.push_back({"Access-Control-Allow-Methods", std::string(allow)});
  std::string headers(head.header("access-control-request-headers"));
  if (!contains(options_.allowed_headers, "*")) {
    headers = "Content-Type, Authorization";
    for (const std::string& h : options_.allowed_headers) headers += ", " + h;
  }
  if (!headers.empty()) r.headers.push_back({"Access-Control-Allow-Headers", headers});
  r.headers.push_back({"Access-Control-Max-Age", "600"});
  return r;
}

Response Api::models(std::string_view one) const {
  json::array data;
  for (const std::string& name : model_.names) {
    json::object entry{{"id", name},
                       {"object", "model"},
                       {"created", model_.created},
                       {"owned_by", "moestro"},
                       {"root", model_.names.front()},
                       {"parent", nullptr},
                       {"max_model_len", model_.max_model_len}};
    if (name == one) return json_response(entry);
    data.push_back(std::move(entry));
  }
  if (one.empty())
    return json_response(json::object{{"object", "list"}, {"data", std::move(data)}});
  return openai::error_response(
      {404,
       format("The model {} does not exist here; this server has {}.",
              json::quote(one.substr(0, 256)), json::quote(model_.names.front())),
       "model", "model_not_found"});
}

Response Api::landing() const {
  Response r;
  r.content_type = "text/plain; charset=utf-8";
  r.body = format(
      "moestro {} serves {}.\n\nOpenAI API:  POST /v1/chat/completions, POST /v1/completions, GET "
      "/v1/models\n"
      "The plan:    GET /v1/plan\nOperation:   GET /health, /metrics, /version\n",
      model_.version, model_.names.front());
  return r;
}

void Api::finished(const Request& head, int status, bool complete) {
  const RouteEntry* route = find_route(route_path(head));
  const bool generation =
      route && (route->route == Route::kChat || route->route == Route::kCompletions);
  if (generation && head.admitted) --load_;
  const std::string_view handler = route ? route->path : "none";
  const bool known_method = head.method == "GET" || head.method == "POST" ||
                            head.method == "HEAD" || head.method == "OPTIONS";
  const std::string result = !complete ? "cut" : format("{}xx", status / 100);
  metrics_
      .counter("http_requests",
               "HTTP requests by route, method and class of status; cut: the client left or was "
               "cut off.",
               {{"handler", std::string(handler)},
                {"method", known_method ? head.method : "other"},
                {"status", result}})
      .add();
  if (log_.disable_access_log) return;
  const auto& quiet = log_.disable_access_log_for;
  if (std::find(quiet.begin(), quiet.end(), head.path) != quiet.end()) return;
  if (!log_enabled(LogLevel::kInfo)) return;
  log_info("{} {} {} {} {:.1f} ms{}", head.peer, head.method.substr(0, 32),
           json::quote(std::string_view(head.target).substr(0, 200)), status,
           seconds_since(head.received) * 1e3, complete ? "" : " (cut)");
}

}  // namespace moestro::server
