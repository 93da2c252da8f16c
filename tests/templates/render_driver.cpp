// render_driver: reads {"source": template, "context": {…}, "now": seconds} a line, writes
// {"output": text} or
// {"error": message} a line. compare_jinja.py runs it beside python3-jinja2.
#include <iostream>
#include <string>

#include "base/json.h"
#include "text/chat_template.h"

namespace {

using moestro::Result;
using moestro::text::ChatTemplate;
namespace json = moestro::json;

Result<std::string> render(const json::object& request) {
  MOESTRO_ASSIGN(const auto compiled,
                 ChatTemplate::compile(json::view(request.at("source").as_string())));
  json::object context = request.at("context").as_object();
  ChatTemplate::Input input;
  json::value messages = nullptr;
  if (const json::value* v = context.if_contains("messages")) {
    messages = *v;
    context.erase("messages");
  }
  input.messages = &messages;
  input.kwargs = &context;
  input.now = request.at("now").as_int64();
  return compiled->render(input);
}

}  // namespace

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    const Result<json::value> request = json::parse(line);
    if (!request.ok() || !request->is_object()) {
      std::cerr << "bad request line: " << request.status().message() << "\n";
      return 2;
    }
    const Result<std::string> text = render(request->get_object());
    json::object reply;
    if (text.ok())
      reply["output"] = *text;
    else
      reply["error"] = text.status().message();
    std::cout << json::dump(reply) << "\n";
  }
  return 0;
}
