package org.pockethdr.demo

import org.pockethdr.core.Bracket
import org.pockethdr.core.Frame
import org.pockethdr.core.HdrImage
import org.pockethdr.core.Latency
import org.pockethdr.core.ModelSpec
import org.pockethdr.core.Pixels
import org.pockethdr.core.Progress
import org.pockethdr.core.Stage
import org.pockethdr.core.StageClock
import org.pockethdr.core.TiledFusion
import org.pockethdr.core.ToneMap
import org.pockethdr.core.UltraHdrJpeg
import org.pockethdr.core.upright
import java.io.File

/** The two pictures that are compared, as files that outlive the app, and what is said of them. */
class Results(private val folder: File) {
    /** An Ultra HDR JPEG, upright. */
    val picture = File(folder, "picture.jpg")

    /** The middle exposure alone, upright. */
    val reference = File(folder, "reference.jpg")
    private val summaryFile = File(folder, "summary.txt")

    val summary: String? get() = if (summaryFile.exists()) summaryFile.readText() else null

    fun replace(picture: ByteArray, reference: ByteArray, summary: String) {
        folder.mkdirs()
        summaryFile.delete()
        this.picture.writeBytes(picture)
        this.reference.writeBytes(reference)
        summaryFile.writeText(summary)
    }
}

/** The work behind the buttons; runs on one background thread. */
class Fusion(private val artifacts: Artifacts, private val store: BracketStore, private val results: Results) {
    /** Fuses the stored bracket, writes the pictures and says how it went. */
    fun fuse(precision: Precision, progress: Progress) {
        val clock = StageClock()
        val report = Report(artifacts.spec.name, precision)
        val bracket = clock.time(Stage.DECODE) { store.load() }
        val reference = clock.time(Stage.ENCODE) { BitmapJpeg.encode(bracket.reference.upright()) }
        val image = clock.time(Stage.LOAD) { open(precision, report) }.use {
            TiledFusion(it, artifacts.spec).fuse(bracket, clock) { done, total ->
                report.tiles = total
                progress.tile(done, total)
            }
        }
        val picture = develop(image, bracket.orientation, clock)
        results.replace(picture, reference, report.text(clock))
    }

    /** Times one tile: warm-up, then [Latency.RUNS] runs. */
    fun measure(precision: Precision, progress: Progress): String {
        val spec = artifacts.spec
        val report = Report(spec.name, precision)
        val inputs = List(ModelSpec.INPUTS.size) { FloatArray(spec.tileHeight * spec.tileWidth * ModelSpec.INPUT_CHANNELS) { 0.5f } }
        return open(precision, report).use { engine ->
            report.text(Latency.of(progress = progress) { engine.run(inputs) }, spec)
        }
    }

    private fun open(precision: Precision, report: Report): LiteRtEngine =
        LiteRtEngine.open(artifacts.file(precision), artifacts.spec, refused = report::refused)
            .also { report.accelerator = it.accelerator }

    private fun develop(image: HdrImage, orientation: Int, clock: StageClock): ByteArray {
        val toneMap = clock.time(Stage.TONE_MAP) { ToneMap(image) }
        return clock.time(Stage.ENCODE) { UltraHdrJpeg.encode(image, toneMap, orientation, BitmapJpeg) }
    }
}

private fun Frame.upright(): Pixels {
    val pixels = Pixels(width, height, IntArray(width * height))
    read(0, 0, width, height, pixels.argb)
    return upright(pixels, orientation)
}

/** The bracket in a line, for the screen. */
fun Bracket.describe(): String = "$width × $height, exposures 1 : " +
    ratios.drop(1).joinToString(" : ") { "%.1f".format(it) }
