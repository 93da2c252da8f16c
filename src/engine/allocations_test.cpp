// Replaces the global operator new of the test program by one that counts (and nothing else).
#include <cstdlib>
#include <new>

#include "engine/allocations_for_test.h"

namespace {
thread_local int64_t count = 0;
}

int64_t moestro::engine::num_allocations() { return count; }

void* operator new(size_t size) {
  ++count;
  if (void* p = std::malloc(size == 0 ? 1 : size)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
