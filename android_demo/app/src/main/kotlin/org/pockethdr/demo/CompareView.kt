package org.pockethdr.demo

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Paint
import android.graphics.RectF
import android.util.AttributeSet
import android.view.View

/** Two pictures of one scene: left of the divider the reference exposure, right of it the fused one. */
class CompareView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val smooth = Paint(Paint.FILTER_BITMAP_FLAG)
    private val line = Paint().apply { color = 0xffffffff.toInt(); strokeWidth = 2 * resources.displayMetrics.density }
    private val place = RectF()

    var reference: Bitmap? = null
        set(value) { field = value; invalidate() }

    var fused: Bitmap? = null
        set(value) { field = value; invalidate() }

    /** Where the divider stands, 0 at the left edge of the picture, 1 at the right. */
    var divider = 0.5f
        set(value) { field = value; invalidate() }

    override fun onDraw(canvas: Canvas) {
        val size = fused ?: return
        fit(size)
        val x = place.left + divider * place.width()
        canvas.half(fused, x, place.right)
        canvas.half(reference, place.left, x)
        canvas.drawLine(x, place.top, x, place.bottom, line)
    }

    /** The largest centred place that keeps the picture's proportions. */
    private fun fit(picture: Bitmap) {
        val scale = minOf(width.toFloat() / picture.width, height.toFloat() / picture.height)
        val left = (width - picture.width * scale) / 2
        val top = (height - picture.height * scale) / 2
        place.set(left, top, left + picture.width * scale, top + picture.height * scale)
    }

    private fun Canvas.half(picture: Bitmap?, left: Float, right: Float) {
        if (picture == null) return
        save()
        clipRect(left, place.top, right, place.bottom)
        drawBitmap(picture, null, place, smooth)
        restore()
    }
}
