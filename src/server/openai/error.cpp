#include "server/openai/error.h"

#include "base/json.h"
#include "base/log.h"
#include "base/strings.h"

namespace moestro::server::openai {

ApiError bad_request(std::string param, std::string message, std::string code) {
  return {400, std::move(message), std::move(param), std::move(code)};
}

ApiError not_supported(std::string param, std::string message) {
  return {400, std::move(message), std::move(param), "unsupported_parameter"};
}

ApiError from_status(const Status& status, std::string param) {
  const bool ours = status.code() == Code::kInternal || status.code() == Code::kDataLoss;
  if (ours) {
    log_error("request failed: {}", status.message());
    return {500, "the server failed on this request; its log says why", std::move(param),
            "internal_error"};
  }
  const int http = status.code() == Code::kUnsupported ? 400 : http_status(status.code());
  std::string code;
  if (http == 429) code = "queue_full";
  if (http == 503) code = "unavailable";
  if (http == 504) code = "timeout";
  return {http, status.message(), std::move(param), std::move(code)};
}

std::string_view error_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 500:
      return "server_error";
    case 503:
      return "service_unavailable_error";
    case 504:
      return "timeout_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

std::string error_json(const ApiError& error) {
  const auto text_or_null = [](const std::string& s) {
    return s.empty() ? json::value(nullptr) : json::value(s);
  };
  // A message may quote client bytes (a template's raise_exception, a field name): never invalid
  // UTF-8 outside.
  json::object body{{"message", repair_utf8(error.message)},
                    {"type", error_type(error.status)},
                    {"param", text_or_null(error.param)},
                    {"code", text_or_null(error.code)}};
  return json::dump(json::object{{"error", std::move(body)}});
}

Response error_response(const ApiError& error) {
  Response response;
  response.status = error.status;
  response.body = error_json(error);
  if (error.status == 429 || error.status == 503) response.headers.push_back({"Retry-After", "1"});
  if (error.status == 401) response.headers.push_back({"WWW-Authenticate", "Bearer"});
  return response;
}

}  // namespace moestro::server::openai
