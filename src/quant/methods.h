// The method singletons, for quant_methods.cpp and tests.
#pragma once
#include "quant/quant_method.h"

namespace moestro::quant {
const QuantMethod& w16a16();     // w16a16.cpp
const QuantMethod& int8_w8a8();  // int8_w8a8.cpp
}  // namespace moestro::quant
