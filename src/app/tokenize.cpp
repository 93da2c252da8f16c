// moestro tokenize: a JSON object a line in, its "text" as token ids out, a line each.
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>

#include "app/model_host.h"
#include "app/model_text.h"
#include "app/print.h"
#include "app/verbs.h"
#include "base/format.h"

namespace moestro::app {
namespace {

json::array as_json(const std::vector<int32_t>& ids) { return json::array(ids.begin(), ids.end()); }

struct Totals {
  int64_t lines = 0, tokens = 0;
};

Result<json::object> tokenized(const text::Tokenizer& tokenizer, std::string_view line) {
  MOESTRO_ASSIGN(const json::value value, json::parse(line));
  const json::object* object = value.if_object();
  const json::value* text = object ? json::find(*object, "text") : nullptr;
  if (!text || !text->is_string()) return invalid_argument("not an object with a string \"text\"");
  const std::string_view content = json::view(text->get_string());
  const std::vector<int32_t> ids = tokenizer.encode(content, false);
  return json::object{{"ids", as_json(ids)},
                      {"ids_special", as_json(tokenizer.post_process(ids))},
                      {"decoded", tokenizer.decode(ids, false)}};
}

// out: null for standard output.
Result<Totals> tokenize(const text::Tokenizer& tokenizer, std::istream& in, const std::string& name,
                        std::ostream* out) {
  Totals totals;
  std::string line;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const Result<json::object> result = tokenized(tokenizer, line);
    if (!result.ok()) return result.status().with(format("{} line {}", name, number));
    ++totals.lines;
    totals.tokens += static_cast<int64_t>(result->at("ids").as_array().size());
    if (out)
      *out << json::dump(*result) << '\n';
    else
      print_json(*result);
  }
  if (in.bad()) return Status{Code::kInternal, format("cannot read {}", name)};
  return totals;
}

}  // namespace

Status run_tokenize(const config::CommandLine& line) {
  const config::Options& options = line.options;
  std::shared_ptr<const checkpoint::ModelFiles> files;
  if (options.model.tokenizer && options.model.model.empty()) {
    MOESTRO_ASSIGN(files, checkpoint::open_directory(*options.model.tokenizer));
  } else {
    MOESTRO_ASSIGN(files, open_files(options));
  }
  MOESTRO_ASSIGN(const ModelText text, open_text(options, *files));
  const std::string& input = *options.tool.input;
  std::ifstream in;
  if (input != "-") {
    in.open(input, std::ios::binary);
    if (!in) return not_found(format("cannot open {}: {}", input, std::strerror(errno)));
  }
  std::istream& source = input == "-" ? std::cin : in;
  const std::string name = input == "-" ? "standard input" : input;
  if (!options.tool.output) {
    if (options.json) return invalid_argument("--json wants --output FILE for the lines");
    return tokenize(*text.tokenizer, source, name, nullptr).status();
  }
  const std::string& output = *options.tool.output;
  std::ofstream out(output, std::ios::binary);
  if (!out) return invalid_argument(format("cannot write {}: {}", output, std::strerror(errno)));
  MOESTRO_ASSIGN(const Totals totals, tokenize(*text.tokenizer, source, name, &out));
  out.close();
  if (!out) return {Code::kInternal, format("cannot write {}: {}", output, std::strerror(errno))};
  if (options.json) print_json(json::object{{"lines", totals.lines}, {"tokens", totals.tokens}});
  return {};
}

}  // namespace moestro::app
