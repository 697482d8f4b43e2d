package org.pockethdr.demo

import com.google.ai.edge.litert.Accelerator
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.pockethdr.core.Bracket
import org.pockethdr.core.Goldens
import org.pockethdr.core.MemoryFrame
import org.pockethdr.core.ModelSpec
import org.pockethdr.core.PocketError
import org.pockethdr.core.TileEngine
import org.pockethdr.core.TiledFusion
import org.pockethdr.core.maxDifference
import java.util.concurrent.CancellationException

/** The app's engine on the real LiteRT library, against `pockethdr.runtime` on the same artifacts. */
class ArtifactTest {
    private val bracket: Bracket by lazy {
        val (width, height) = Goldens.ints("bracket.size")
        val exposures = Goldens.doubles("bracket.exposures")
        Bracket.of(exposures.mapIndexed { i, seconds -> MemoryFrame(Goldens.pixels("bracket_$i.u8", width, height), seconds) })
    }

    private val floatArtifact by lazy { file(Goldens.text("fp16").split(' ').first()) }

    private fun file(artifact: String) = Goldens.file("$artifact.tflite")

    private fun difference(artifact: String, engine: TileEngine): Float {
        val image = engine.use { TiledFusion(it, Goldens.spec()).fuse(bracket) }
        return maxDifference(Goldens.floats("$artifact.f32"), image.pixels)
    }

    @Test
    fun int8HasTheBitsOfTheHost() {
        for (artifact in Goldens.text("int8").split(' ')) {
            assertEquals(artifact, 0f, difference(artifact, IntegerEngine(artifact)), 0f)
        }
    }

    @Test
    fun fp16IsTheHostsToRounding() {
        for (artifact in Goldens.text("fp16").split(' ')) {
            val found = difference(artifact, LiteRtEngine.open(file(artifact), Goldens.spec()))
            println("$artifact on ${System.getProperty("os.arch")}: max |difference| $found")
            assertTrue("$artifact: $found", found <= Goldens.text("fp16.tolerance").toFloat())
        }
    }

    @Test
    fun acceleratorsAreTriedInTurnAndTheOneThatOpensIsNamed() {
        val refused = mutableListOf<Accelerator>()
        LiteRtEngine.open(floatArtifact, Goldens.spec(), refused = { accelerator, _ -> refused += accelerator }).use {
            assertEquals("CPU", it.accelerator)
        }
        assertEquals(listOf(Accelerator.NPU, Accelerator.GPU), refused)
    }

    @Test
    fun aFileThatIsNoArtifactIsRefusedInASentence() {
        val failure = assertThrows(PocketError::class.java) {
            LiteRtEngine.open(Goldens.file("goldens.properties"), Goldens.spec())
        }
        assertTrue(failure.message, failure.message!!.startsWith("goldens.properties runs on none of NPU, GPU, CPU."))
    }

    @Test
    fun aRunThatFailsIsASentence() {
        LiteRtEngine.open(floatArtifact, Goldens.spec()).use { engine ->
            val tooMany = List(ModelSpec.INPUTS.size) { FloatArray(1_000_000) }
            val failure = assertThrows(PocketError::class.java) { engine.run(tooMany) }
            assertTrue(failure.message, Regex(".+ failed on the CPU: 1000000 values for .+ Choose .+\\.").matches(failure.message!!))
        }
    }

    @Test
    fun aFusionCanBeCancelled() {
        val engine = LiteRtEngine.open(floatArtifact, Goldens.spec())
        var done = 0
        engine.use {
            assertThrows(CancellationException::class.java) {
                TiledFusion(it, Goldens.spec()).fuse(bracket) { tile, _ ->
                    done = tile
                    throw CancellationException()
                }
            }
        }
        assertEquals(1, done)
    }
}
