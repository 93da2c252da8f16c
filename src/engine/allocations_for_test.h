// How many times this thread has called operator new, for tests of paths that must not.
#pragma once
#include <cstdint>

namespace moestro::engine {
int64_t num_allocations();
}
