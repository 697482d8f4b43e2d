package org.pockethdr.demo

import android.annotation.SuppressLint
import android.content.Context
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraCaptureSession
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.hardware.camera2.CaptureFailure
import android.hardware.camera2.CaptureRequest
import android.hardware.camera2.CaptureResult
import android.hardware.camera2.TotalCaptureResult
import android.media.ImageReader
import android.os.Handler
import android.os.HandlerThread
import android.view.Surface
import org.pockethdr.core.PocketError
import org.pockethdr.core.Shot
import org.pockethdr.core.exposurePlan
import java.io.IOException

/**
 * Takes a bracket: the preview meters, then one burst of three exposures set by hand.
 *
 * All of it runs on one thread of its own; a [Burst] pairs images with what the sensor did. However
 * a burst ends, its images go back to the camera and the viewfinder goes on.
 */
class BracketCamera(
    private val context: Context,
    private val viewfinder: Surface,
    private val raw: Boolean,
    private val listener: Listener,
) {
    /** Called on the camera's thread. */
    interface Listener {
        fun onReady(description: String)
        fun onProblem(sentence: String)
        fun onBracket(frames: List<CapturedFrame>)
        fun onRawSaved(names: List<String>)
    }

    private val thread = HandlerThread("camera").apply { start() }
    private val handler = Handler(thread.looper)
    private var device: CameraDevice? = null
    private var session: CameraCaptureSession? = null
    private var reader: ImageReader? = null
    private lateinit var properties: CameraProperties

    /** What the preview last metered. */
    private var metered: Shot? = null
    private var burst: Burst? = null

    fun open() = onCameraThread {
        properties = CameraProperties.ofBackCamera(manager())
        val size = properties.size(raw)
        reader = ImageReader.newInstance(size.width, size.height, properties.format(raw), MOST_IMAGES)
        openDevice()
    }

    fun shoot() = onCameraThread {
        val seen = metered ?: throw PocketError("The camera has not measured the light yet. Try again in a moment.")
        val device = device ?: return@onCameraThread
        val session = session ?: return@onCameraThread
        val reader = reader ?: return@onCameraThread
        if (burst?.isOpen == true) return@onCameraThread
        val plan = exposurePlan(seen, properties.times, properties.isos)
        val collector = Burst(plan.size) { pairs -> deliver(pairs.map { (image, result) -> BurstShot(image, result) }) }
        burst = collector
        reader.setOnImageAvailableListener({ source -> source.acquireNextImage()?.let { collector.image(it.timestamp, it) } }, handler)
        try {
            session.stopRepeating()
            session.captureBurst(plan.map { request(device, reader.surface, it) }, burstCallback(collector), handler)
        } catch (failure: Exception) {
            collector.close()
            resume()
            throw failure
        }
    }

    fun close() {
        handler.post {
            burst?.close()
            session?.close()
            device?.close()
            reader?.close()
            thread.quitSafely()
        }
    }

    // The activity asks for the permission before it makes a camera.
    @SuppressLint("MissingPermission")
    private fun openDevice() = manager().openCamera(properties.id, object : CameraDevice.StateCallback() {
        override fun onOpened(opened: CameraDevice) = onCameraThread {
            device = opened
            opened.createCaptureSession(listOf(viewfinder, reader!!.surface), sessionCallback(opened), handler)
        }

        override fun onDisconnected(lost: CameraDevice) {
            lost.close()
            listener.onProblem("Another app has taken the camera.")
        }

        override fun onError(failed: CameraDevice, error: Int) {
            failed.close()
            listener.onProblem("The camera failed (error $error). Close other camera apps and try again.")
        }
    }, handler)

    private fun sessionCallback(device: CameraDevice) = object : CameraCaptureSession.StateCallback() {
        override fun onConfigured(configured: CameraCaptureSession) = onCameraThread {
            session = configured
            preview(device, configured)
            listener.onReady("${properties.size(raw)}, ${if (raw) "raw files for the desktop" else "fused on the phone"}")
        }

        override fun onConfigureFailed(failed: CameraCaptureSession) =
            listener.onProblem("The camera does not offer this combination of pictures.")
    }

    private fun preview(device: CameraDevice, session: CameraCaptureSession) {
        val request = device.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW).apply { addTarget(viewfinder) }
        session.setRepeatingRequest(request.build(), object : CameraCaptureSession.CaptureCallback() {
            override fun onCaptureCompleted(s: CameraCaptureSession, r: CaptureRequest, result: TotalCaptureResult) {
                metered = shotOf(result)
            }
        }, handler)
    }

    private fun request(device: CameraDevice, target: Surface, shot: Shot): CaptureRequest =
        device.createCaptureRequest(CameraDevice.TEMPLATE_STILL_CAPTURE).apply {
            addTarget(target)
            // Colours must not change between frames: white balance and focus stay where the preview left them.
            set(CaptureRequest.CONTROL_AWB_LOCK, true)
            set(CaptureRequest.CONTROL_AE_MODE, CaptureRequest.CONTROL_AE_MODE_OFF)
            set(CaptureRequest.SENSOR_EXPOSURE_TIME, shot.nanoseconds)
            set(CaptureRequest.SENSOR_SENSITIVITY, shot.iso)
            set(CaptureRequest.SENSOR_FRAME_DURATION, shot.nanoseconds)
        }.build()

    private fun burstCallback(collector: Burst) = object : CameraCaptureSession.CaptureCallback() {
        override fun onCaptureStarted(s: CameraCaptureSession, r: CaptureRequest, time: Long, frame: Long) = collector.begun(time)

        override fun onCaptureCompleted(s: CameraCaptureSession, r: CaptureRequest, result: TotalCaptureResult) =
            result.get(CaptureResult.SENSOR_TIMESTAMP)?.let { collector.result(it, result) } ?: lost(collector)

        override fun onCaptureFailed(s: CameraCaptureSession, r: CaptureRequest, failure: CaptureFailure) = lost(collector)

        override fun onCaptureBufferLost(s: CameraCaptureSession, r: CaptureRequest, target: Surface, frame: Long) = lost(collector)
    }

    private fun lost(collector: Burst) = onCameraThread {
        if (!collector.close()) return@onCameraThread
        listener.onProblem("The camera lost a frame of the bracket. Try again.")
        resume()
    }

    private fun deliver(shots: List<BurstShot>) = onCameraThread {
        val turn = properties.exifOrientation()
        if (raw) listener.onRawSaved(releasing(shots) { saveRaw(context, properties.characteristics, shots, turn) })
        else listener.onBracket(releasing(shots) { shots.map { it.frame(turn) } })
    }

    private fun <T> releasing(shots: List<BurstShot>, work: () -> T): T = try {
        work()
    } finally {
        shots.forEach { it.image.close() }
        resume()
    }

    private fun resume() = onCameraThread {
        val device = device ?: return@onCameraThread
        val session = session ?: return@onCameraThread
        if (viewfinder.isValid) preview(device, session)
    }

    private fun manager() = context.getSystemService(Context.CAMERA_SERVICE) as CameraManager

    /** Runs [work] on the camera's thread; what goes wrong becomes a sentence. */
    private fun onCameraThread(work: () -> Unit) {
        handler.post {
            try {
                work()
            } catch (refused: PocketError) {
                listener.onProblem(refused.message.orEmpty())
            } catch (failed: CameraAccessException) {
                listener.onProblem("The camera cannot be used now: ${failed.message}.")
            } catch (closed: IllegalStateException) {
                listener.onProblem("The camera was closed. Open this screen again.")
            } catch (full: IOException) {
                listener.onProblem("The raw files could not be written: ${full.message}.")
            }
        }
    }

    private companion object {
        // Three of a bracket, and one that the camera may hold back.
        const val MOST_IMAGES = 4
    }
}

/** What the sensor really did. */
internal fun shotOf(result: CaptureResult): Shot? {
    val time = result.get(CaptureResult.SENSOR_EXPOSURE_TIME) ?: return null
    val iso = result.get(CaptureResult.SENSOR_SENSITIVITY) ?: return null
    return Shot(time, iso)
}
