#include "app/version.h"

#include "app/built_in_model.h"
#include "app/print.h"
#include "app/verbs.h"
#include "base/format.h"
#include "base/strings.h"
#include "models/model_spec.h"
#include "platform/cpu_features.h"

namespace moestro::app {

Status run_version(bool json) {
  const platform::CpuInfo cpu = platform::read_cpu_info();
  const std::string isa = platform::isa_names(platform::detect_isa());
  const bool has_demo = built_in_model_files() != nullptr;
  if (json) {
    json::array families;
    for (const std::string_view family : models::model_families())
      families.push_back(json::value(family));
    print_json(json::object{{"version", kVersion},
                            {"compiler", __VERSION__},
                            {"processor", cpu.model_name},
                            {"processors", cpu.num_cpus},
                            {"memory_bytes", cpu.memory_bytes},
                            {"isa", isa},
                            {"families", std::move(families)},
                            {"built_in_model", has_demo}});
    return {};
  }
  print(format("moestro {}\n", kVersion));
  print(format("  processor   {}, {} usable, {}\n", cpu.model_name, cpu.num_cpus,
               human_bytes(cpu.memory_bytes)));
  print(format("  isa         {}\n", isa));
  std::string families;
  for (const std::string_view family : models::model_families())
    families += (families.empty() ? "" : ", ") + std::string(family);
  print(format("  families    {}\n", families));
  print(format("  demo model  {}\n", has_demo ? "built in" : "not in this build"));
  return {};
}

}  // namespace moestro::app
