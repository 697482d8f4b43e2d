package org.pockethdr.core

/**
 * The affine code of an integer tensor: real = (code − [zeroPoint]) · [scale].
 *
 * Our own INT8 artifacts code inside the graph and speak float; this is for artifacts with integer
 * inputs and outputs. Same rounding as `runtime/litert.py`: to the nearest, ties to even.
 */
class Quantization(private val scale: Float, private val zeroPoint: Int) {
    fun quantize(values: FloatArray) = ByteArray(values.size) {
        (Math.rint((values[it] / scale).toDouble()) + zeroPoint).coerceIn(-128.0, 127.0).toInt().toByte()
    }

    fun dequantize(codes: ByteArray) = FloatArray(codes.size) { (codes[it] - zeroPoint) * scale }
}
