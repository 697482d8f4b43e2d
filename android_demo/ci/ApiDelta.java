import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import java.util.zip.ZipOutputStream;
import org.objectweb.asm.ClassReader;
import org.objectweb.asm.ClassVisitor;
import org.objectweb.asm.ClassWriter;
import org.objectweb.asm.MethodVisitor;
import org.objectweb.asm.Opcodes;

/**
 * Adds the members of a delta file to an android.jar, to compile against.
 *
 * <p>java -cp asm.jar ApiDelta.java ANDROID_JAR DELTA OUT_JAR
 */
class ApiDelta {
  public static void main(String[] arguments) throws IOException {
    Map<String, StringBuilder> delta = parsed(Files.readAllLines(Path.of(arguments[1])));
    try (ZipFile jar = new ZipFile(arguments[0]);
        OutputStream file = Files.newOutputStream(Path.of(arguments[2]));
        ZipOutputStream out = new ZipOutputStream(file)) {
      for (ZipEntry entry : (Iterable<ZipEntry>) jar.stream().map(e -> (ZipEntry) e)::iterator) {
        if (!entry.getName().endsWith(".class")) continue;
        byte[] bytes = jar.getInputStream(entry).readAllBytes();
        StringBuilder members = delta.remove(entry.getName().replace(".class", ""));
        out.putNextEntry(new ZipEntry(entry.getName()));
        out.write(members == null ? bytes : extended(bytes, members.toString().lines().toList()));
      }
    }
    if (!delta.isEmpty()) throw new IllegalArgumentException("no such class: " + delta.keySet());
  }

  /** Class name → its lines. */
  private static Map<String, StringBuilder> parsed(List<String> lines) {
    Map<String, StringBuilder> delta = new HashMap<>();
    StringBuilder members = null;
    for (String line : lines) {
      if (line.startsWith("#") || line.isBlank()) continue;
      if (line.startsWith("class ")) delta.put(line.substring(6), members = new StringBuilder());
      else members.append(line).append('\n');
    }
    return delta;
  }

  private static byte[] extended(byte[] bytes, List<String> members) {
    ClassWriter writer = new ClassWriter(0);
    new ClassReader(bytes).accept(new ClassVisitor(Opcodes.ASM9, writer) {
      @Override
      public void visitEnd() {
        members.forEach(member -> add(member.split(" "), cv));
        super.visitEnd();
      }
    }, 0);
    return writer.toByteArray();
  }

  private static void add(String[] member, ClassVisitor to) {
    if (member[0].equals("field")) {
      Object value = member[2].equals("I") ? (Object) Integer.valueOf(member[3]) : member[3];
      int access = Opcodes.ACC_PUBLIC | Opcodes.ACC_STATIC | Opcodes.ACC_FINAL;
      to.visitField(access, member[1], member[2], null, value).visitEnd();
    } else {
      // Never run: a body that only has to be valid.
      MethodVisitor body = to.visitMethod(Opcodes.ACC_PUBLIC, member[1], member[2], null, null);
      body.visitCode();
      body.visitInsn(Opcodes.ACONST_NULL);
      body.visitInsn(Opcodes.ATHROW);
      body.visitMaxs(1, 8);
      body.visitEnd();
    }
  }
}
