package org.pockethdr.demo

import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.LiteRtException
import com.google.ai.edge.litert.TensorBuffer
import org.pockethdr.core.ModelSpec
import org.pockethdr.core.PocketError
import org.pockethdr.core.TileEngine
import java.io.File

/** An artifact on LiteRT. Inputs and outputs are bound by name: runtimes list them in any order. */
class LiteRtEngine private constructor(
    private val model: CompiledModel,
    override val accelerator: String,
    private val spec: ModelSpec,
) : TileEngine {
    private val inputs = mutableMapOf<String, TensorBuffer>()
    private val outputs = mutableMapOf<String, TensorBuffer>()

    override fun run(inputs: List<FloatArray>): FloatArray = try {
        execute(inputs)
    } catch (failure: LiteRtException) {
        throw PocketError("${spec.name} failed on the $accelerator: ${failure.message}. Choose the other precision.", failure)
    }

    override fun close() {
        (inputs.values + outputs.values).forEach { it.close() }
        model.close()
    }

    private fun execute(inputs: List<FloatArray>): FloatArray {
        ModelSpec.INPUTS.forEachIndexed { i, name -> this.inputs.getValue(name).writeFloat(inputs[i]) }
        model.run(this.inputs, outputs)
        return outputs.getValue(ModelSpec.OUTPUT).readFloat()
    }

    private fun bind() {
        for (name in ModelSpec.INPUTS) inputs[name] = model.createInputBuffer(name)
        outputs[ModelSpec.OUTPUT] = model.createOutputBuffer(ModelSpec.OUTPUT)
    }

    /** Some accelerators accept a model and fail when they run it. */
    private fun tryOut() {
        execute(List(ModelSpec.INPUTS.size) { FloatArray(spec.tileHeight * spec.tileWidth * ModelSpec.INPUT_CHANNELS) })
    }

    companion object {
        val PREFERENCE = listOf(Accelerator.NPU, Accelerator.GPU, Accelerator.CPU)

        /**
         * Opens [file] on the first accelerator that runs it. They are tried one at a time: given several,
         * LiteRT falls back without saying so. [refused] is told why the others did not.
         */
        fun open(
            file: File,
            spec: ModelSpec,
            preference: List<Accelerator> = PREFERENCE,
            refused: (Accelerator, String) -> Unit = { _, _ -> },
        ): LiteRtEngine {
            for (accelerator in preference) {
                try {
                    return open(file, spec, accelerator)
                } catch (failure: LiteRtException) {
                    refused(accelerator, failure.message ?: "it does not open")
                }
            }
            throw PocketError("${file.name} runs on none of ${preference.joinToString()}. Export it again with this version of LiteRT.")
        }

        private fun open(file: File, spec: ModelSpec, accelerator: Accelerator): LiteRtEngine {
            val engine = LiteRtEngine(CompiledModel.create(file.path, options(accelerator)), accelerator.name, spec)
            try {
                engine.bind()
                engine.tryOut()
                return engine
            } catch (failure: Throwable) {
                engine.close()
                throw failure
            }
        }

        private fun options(accelerator: Accelerator) = CompiledModel.Options(accelerator).apply {
            when (accelerator) {
                Accelerator.CPU -> cpuOptions = CompiledModel.CpuOptions(numThreads = THREADS)
                Accelerator.GPU -> gpuOptions = CompiledModel.GpuOptions(precision = CompiledModel.GpuOptions.Precision.FP16)
                else -> Unit
            }
        }

        // The fast cores of most phones.
        private const val THREADS = 4
    }
}
