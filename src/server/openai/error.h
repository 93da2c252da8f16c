// ApiError: a refusal in OpenAI's form, {"error": {"message", "type", "param", "code"}}. Every
// error body of the server is made here.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "server/http/http.h"

namespace moestro::server::openai {

struct ApiError {
  int status = 400;
  std::string message;
  std::string param;  // the field of the request; empty: null
  std::string code;   // "context_length_exceeded", …; empty: null
};

ApiError bad_request(std::string param, std::string message, std::string code = {});
// A field that is valid in the API and not done here. kUnsupported would be 501 elsewhere; a
// request field is the client's to drop.
ApiError not_supported(std::string param, std::string message);
// kInvalidArgument and kUnsupported become 400, kInternal's and kDataLoss' messages stay in the
// log.
ApiError from_status(const Status& status, std::string param = {});

std::string error_json(const ApiError& error);   // {"error": {…}}
Response error_response(const ApiError& error);  // with Retry-After where the status wants it
std::string_view error_type(int status);

}  // namespace moestro::server::openai
