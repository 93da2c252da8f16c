// Random hexadecimal digits for ids of requests and tool calls. Any thread.
#pragma once
#include <string>

namespace moestro::server {

std::string random_id();  // 32 digits

}  // namespace moestro::server
