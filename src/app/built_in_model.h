// The demo model, embedded in the binary from models/demo when it is built
// (cmake/built_in_model.cmake).
#pragma once
#include <memory>
#include <span>
#include <string_view>

#include "checkpoint/model_files.h"

namespace moestro::app {

inline constexpr std::string_view kBuiltInModelName = "moestro-demo";

// Null if the build had no models/demo. Views into the binary, valid for ever.
std::unique_ptr<checkpoint::ModelFiles> built_in_model_files();

// Generated: every file of models/demo but README.md.
std::span<const checkpoint::EmbeddedFile> built_in_files();

}  // namespace moestro::app
