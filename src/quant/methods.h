// The method singletons, for quant_method.cpp; one file each, named alike.
#pragma once
#include "quant/quant_method.h"

namespace moestro::quant {
const QuantMethod& w16a16();          // plain floats
const QuantMethod& int8_w8a8();       // int8, a scale a channel or one in all
const QuantMethod& int8_block();      // int8, a scale a block
const QuantMethod& fp8_w8a8();        // e4m3, a scale a channel or one in all
const QuantMethod& fp8_block();       // e4m3, a scale a block
const QuantMethod& pack_quantized();  // compressed-tensors int4 and int8 in int32 words
const QuantMethod& gptq();
const QuantMethod& awq();
const QuantMethod& slimquant_w4a8();  // int4 experts of slimquant
const QuantMethod& mxfp4();           // gpt_oss and compressed-tensors
const QuantMethod& nvfp4();           // compressed-tensors and ModelOpt
}  // namespace moestro::quant
