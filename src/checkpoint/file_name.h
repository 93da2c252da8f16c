// Which file names a checkpoint may use. Called by model_files (every open) and by the safetensors
// index reader, which wants to name the tensor that carries the bad name. Thread-safe.
#pragma once
#include <string_view>

namespace moestro::checkpoint {

// True for a plain base name: no '/', '\\', NUL or control character, not empty, not "." or "..",
// at most 255 bytes.
bool is_plain_file_name(std::string_view name);

}  // namespace moestro::checkpoint
