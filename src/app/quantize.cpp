// moestro quantize MODEL OUT --scheme …: a checkpoint into a quantised one in compressed-tensors
// form.
#include "app/loading_progress.h"
#include "app/model_host.h"
#include "app/print.h"
#include "app/verbs.h"
#include "base/format.h"
#include "base/strings.h"
#include "platform/cpu_features.h"
#include "quant/convert.h"

namespace moestro::app {
namespace {

Result<const quant::QuantizeScheme*> scheme_of(const config::Options& options) {
  std::string known;
  for (const quant::QuantizeScheme& s : quant::quantize_schemes())
    known += format("{}{}", known.empty() ? "" : ", ", s.name);
  if (!options.tool.scheme)
    return invalid_argument(format("which scheme? --scheme is one of {}", known));
  const quant::QuantizeScheme* scheme = quant::find_quantize_scheme(*options.tool.scheme);
  if (!scheme)
    return invalid_argument(
        format("--scheme {}: no such scheme; there are {}", *options.tool.scheme, known));
  return scheme;
}

}  // namespace

Status run_quantize(const config::CommandLine& line) {
  const config::Options& options = line.options;
  if (options.model.model.empty() || !options.tool.out)
    return invalid_argument("write moestro quantize MODEL OUT --scheme SCHEME");
  MOESTRO_ASSIGN(const quant::QuantizeScheme* scheme, scheme_of(options));
  MOESTRO_ASSIGN(const auto files, open_files(options));
  MOESTRO_ASSIGN(const auto file, files->open("config.json"));
  MOESTRO_ASSIGN(const json::value config, json::parse(file->text()));
  if (!config.is_object()) return data_loss("config.json is not an object");
  MOESTRO_ASSIGN(const checkpoint::QuantConfig quant,
                 checkpoint::read_quant_config(*files, config.get_object()));
  MOESTRO_ASSIGN(const auto weights, checkpoint::open_safetensors(files));
  std::vector<std::string> ignore;
  for (const std::string& entry : options.tool.ignore)
    ignore.push_back(entry.starts_with("re:") ? entry : "re:" + entry);
  platform::Gang gang(
      static_cast<int>(options.parallel.threads.value_or(platform::read_cpu_info().num_cpus)),
      options.parallel.pin_threads);
  quant::ConvertResult result;
  {
    LoadingProgress progress(weights->total_bytes(), true, "quantizing");
    MOESTRO_ASSIGN(result,
                   quant::convert_checkpoint(
                       {.files = *files,
                        .source = *weights,
                        .quant = quant,
                        .scheme = *scheme,
                        .ignore = std::move(ignore),
                        .out = *options.tool.out,
                        .max_shard_bytes = static_cast<uint64_t>(options.tool.max_shard_size),
                        .gang = gang,
                        .progress = [&](uint64_t bytes) { progress.add(bytes); }}));
  }
  if (options.json) {
    json::array left, notes;
    for (const std::string& module : result.left) left.emplace_back(module);
    for (const std::string& note : result.notes) notes.emplace_back(note);
    print_json(json::object{{"scheme", scheme->name},
                            {"quantized", result.quantized},
                            {"left", std::move(left)},
                            {"notes", std::move(notes)},
                            {"bytes_read", result.bytes_read},
                            {"bytes_written", result.bytes_written}});
    return {};
  }
  for (const std::string& note : result.notes) print(note + "\n");
  print(format("{}: {} linear layers as {} ({}), {} left as they were; {} -> {}\n",
               *options.tool.out, result.quantized, scheme->name, scheme->summary,
               result.left.size(), human_bytes(result.bytes_read),
               human_bytes(result.bytes_written)));
  return {};
}

}  // namespace moestro::app
