// Stands in for libcuda.so.1, the library of NVIDIA's driver, when the engine is linked. A program that names that library does
// not start where no driver is, and cannot say why. Here each of its functions is a jump to the driver's own, which is looked
// up by cuInit, the first one that anybody calls; without a driver all of them answer CUDA_ERROR_STUB_LIBRARY.
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>

enum { CUDA_ERROR_STUB_LIBRARY = 34 };

static int no_driver(void) { return CUDA_ERROR_STUB_LIBRARY; }

// Arguments stay in the registers and on the stack where the caller put them.
#define FUNCTION(name)                                                                             \
  __attribute__((visibility("hidden"), used)) void *sojourn_##name = (void *)no_driver;            \
  __asm__(".pushsection .text\n.globl " #name "\n.type " #name ", @function\n" #name               \
          ":\n\tjmp *sojourn_" #name "(%rip)\n.popsection");
#include "driver-functions.h"
#undef FUNCTION

static const struct {
  const char *name;
  void **at;
} functions[] = {
#define FUNCTION(name) {#name, &sojourn_##name},
#include "driver-functions.h"
#undef FUNCTION
};

static int (*driver_init)(unsigned) = NULL;

static void look_up(void) {
  void *driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (driver == NULL) return;
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    void *found = dlsym(driver, functions[i].name);
    if (found != NULL) *functions[i].at = found;
  }
  *(void **)&driver_init = dlsym(driver, "cuInit");
}

int cuInit(unsigned flags) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, look_up);
  return driver_init == NULL ? no_driver() : driver_init(flags);
}
