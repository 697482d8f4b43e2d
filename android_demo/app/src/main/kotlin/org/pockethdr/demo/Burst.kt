package org.pockethdr.demo

import android.content.Context
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CaptureResult
import android.hardware.camera2.DngCreator
import android.hardware.camera2.TotalCaptureResult
import android.media.Image
import org.pockethdr.core.I420
import org.pockethdr.core.PocketError
import org.pockethdr.core.YuvPlane

/** An image and what the sensor did for it. */
class BurstShot(val image: Image, val result: TotalCaptureResult) {
    /** The YUV image, copied out, since the camera has only a few. */
    fun frame(orientation: Int): CapturedFrame {
        val shot = shotOf(result) ?: throw PocketError("The camera did not say how long it exposed.")
        val planes = image.planes.map { YuvPlane(it.buffer, it.rowStride, it.pixelStride) }
        // Chroma stands for two by two pixels.
        val packed = I420.of(image.width and 1.inv(), image.height and 1.inv(), planes)
        image.close()
        return CapturedFrame(packed, shot.exposure, orientation)
    }
}

/** Pairs the images of a burst with their results, by the sensor's clock; both come in any order. */
class BurstCollector(private val count: Int, private val onComplete: (List<BurstShot>) -> Unit) {
    private val images = sortedMapOf<Long, Image>()
    private val results = mutableMapOf<Long, TotalCaptureResult>()

    fun image(image: Image) {
        images[image.timestamp] = image
        completeWhenPaired()
    }

    fun result(result: TotalCaptureResult) {
        results[result.get(CaptureResult.SENSOR_TIMESTAMP) ?: return] = result
        completeWhenPaired()
    }

    fun close() = images.values.forEach { it.close() }

    private fun completeWhenPaired() {
        if (images.size < count || !results.keys.containsAll(images.keys)) return
        onComplete(images.map { (time, image) -> BurstShot(image, results.getValue(time)) })
    }
}

/** Saves a burst as DNG files, which `pockethdr fuse` reads on a desktop; returns their names. */
fun saveRaw(
    context: Context,
    characteristics: CameraCharacteristics,
    shots: List<BurstShot>,
    orientation: Int,
): List<String> = shots.mapIndexed { i, shot ->
    val name = "pockethdr_${shots[0].image.timestamp / 1_000_000}_$i.dng"
    DngCreator(characteristics, shot.result).use { dng ->
        dng.setOrientation(orientation)
        saveToGallery(context, name, "image/x-adobe-dng") { dng.writeImage(it, shot.image) }
    }
    name
}.also { shots.forEach { it.image.close() } }
