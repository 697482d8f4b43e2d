package org.pockethdr.demo

import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import org.pockethdr.core.Goldens
import org.pockethdr.core.ModelSpec
import org.pockethdr.core.Quantization
import org.pockethdr.core.TileEngine

/**
 * An artifact whose inputs and outputs are INT8 too, as the recipe `full` makes them: the only one that
 * has the same bits on every processor. The app's artifacts take floats.
 */
class IntegerEngine(private val artifact: String) : TileEngine {
    override val accelerator = Accelerator.CPU.name
    private val model = CompiledModel.create(Goldens.file("$artifact.tflite").path, CompiledModel.Options(Accelerator.CPU))
    private val inputs = ModelSpec.INPUTS.associateWith { model.createInputBuffer(it) }
    private val output = model.createOutputBuffer(ModelSpec.OUTPUT)

    override fun run(inputs: List<FloatArray>): FloatArray {
        ModelSpec.INPUTS.forEachIndexed { i, name -> this.inputs.getValue(name).writeInt8(coding(name).quantize(inputs[i])) }
        model.run(this.inputs, mapOf(ModelSpec.OUTPUT to output))
        return coding(ModelSpec.OUTPUT).dequantize(output.readInt8())
    }

    override fun close() {
        inputs.values.forEach { it.close() }
        output.close()
        model.close()
    }

    private fun coding(tensor: String): Quantization {
        val (scale, zero) = Goldens.text("$artifact.$tensor").split(' ')
        return Quantization(scale.toFloat(), zero.toInt())
    }
}
