package com.google.ai.edge.litert

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/*
 * A stand-in for com.google.ai.edge.litert:litert 2.x where Google's Maven cannot be reached: the same
 * names and signatures for the part that the app calls, on LiteRT's C API. Only the CPU is offered.
 * A Gradle build never sees it.
 */

class LiteRtException(message: String) : Exception(message)

enum class Accelerator(internal val bit: Int) { NONE(0), CPU(1), GPU(2), NPU(4) }

class CompiledModel private constructor(private val network: NativeNetwork) : AutoCloseable {
    class Options(internal val accelerators: Set<Accelerator>) {
        constructor(vararg accelerators: Accelerator) : this(accelerators.toSet())

        var cpuOptions: CpuOptions? = null
        var gpuOptions: GpuOptions? = null
    }

    data class CpuOptions(val numThreads: Int? = null)

    data class GpuOptions(val precision: Precision? = null) {
        enum class Precision { DEFAULT, FP16, FP32 }
    }

    fun createInputBuffer(inputName: String, signature: String? = null): TensorBuffer =
        buffer(output = false, inputName)

    fun createOutputBuffer(outputName: String, signature: String? = null): TensorBuffer =
        buffer(output = true, outputName)

    fun run(inputs: Map<String, TensorBuffer>, outputs: Map<String, TensorBuffer>, signature: String? = null) {
        inputs.values.forEach { network.write(it.index, it.values) }
        network.run()
        outputs.values.forEach { network.read(it.index, it.values) }
    }

    override fun close() = network.close()

    private fun buffer(output: Boolean, name: String): TensorBuffer {
        val index = network.index(output, name)
        if (index < 0) throw LiteRtException("the model has no tensor called $name")
        return TensorBuffer(index, directBuffer(network.bytes(output, index).toInt()))
    }

    companion object {
        @JvmStatic
        fun create(filePath: String, options: Options = Options(Accelerator.CPU)): CompiledModel {
            val accelerator = options.accelerators.single()
            if (accelerator != Accelerator.CPU) throw LiteRtException("this build of LiteRT has no $accelerator")
            val file = File(filePath).readBytes()
            return CompiledModel(NativeNetwork(directBuffer(file.size).put(file), accelerator.bit))
        }
    }
}

class TensorBuffer internal constructor(internal val index: Int, internal val values: ByteBuffer) : AutoCloseable {
    fun writeFloat(data: FloatArray) {
        if (data.size > values.capacity() / 4) throw LiteRtException("${data.size} values for ${values.capacity() / 4}")
        values.asFloatBuffer().put(data)
    }

    fun readFloat(): FloatArray = FloatArray(values.capacity() / 4).also { values.asFloatBuffer().get(it) }

    fun writeInt8(data: ByteArray) {
        values.duplicate().put(data)
    }

    fun readInt8(): ByteArray = ByteArray(values.capacity()).also { values.duplicate().get(it) }

    override fun close() = Unit
}

private fun directBuffer(bytes: Int): ByteBuffer = ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())
