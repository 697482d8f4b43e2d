/* Names to link against; the phone has the real ones. */
void *memcpy(void *to, const void *from, unsigned long bytes) { (void)from; (void)bytes; return to; }
void *calloc(unsigned long count, unsigned long bytes) { (void)count; (void)bytes; return 0; }
void free(void *memory) { (void)memory; }
int strcmp(const char *a, const char *b) { (void)a; (void)b; return 0; }
