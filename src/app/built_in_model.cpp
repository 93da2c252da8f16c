#include "app/built_in_model.h"

#include <vector>

namespace moestro::app {

std::unique_ptr<checkpoint::ModelFiles> built_in_model_files() {
  const std::span<const checkpoint::EmbeddedFile> files = built_in_files();
  if (files.empty()) return nullptr;
  return checkpoint::embedded_model_files("built-in model", {files.begin(), files.end()});
}

}  // namespace moestro::app
