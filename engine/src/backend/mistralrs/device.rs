//! The GPU: whether it can be used, and what its errors mean.

use candle_core::{Device, Error};

use crate::backend::StepError;
use crate::backend::load;
use crate::backend::load_error::LoadError;

/// Opens the device, or says why it cannot be used.
pub fn open(device: load::Device) -> Result<Device, LoadError> {
    match device {
        load::Device::Cpu => Ok(Device::Cpu),
        load::Device::Cuda => open_gpu(),
    }
}

#[cfg(not(feature = "cuda"))]
fn open_gpu() -> Result<Device, LoadError> {
    Err(LoadError::cpu_build())
}

#[cfg(feature = "cuda")]
fn open_gpu() -> Result<Device, LoadError> {
    let unusable = |error: &str| LoadError::DeviceUnavailable(unusable(error));
    let device = Device::new_cuda(0).map_err(|error| unusable(&plain(&error)))?;
    if let Device::Cuda(gpu) = &device {
        let stream = gpu.cuda_stream();
        let (major, minor) = stream.context().compute_capability().map_err(|error| unusable(&error.to_string()))?;
        let (found, built_for) = (major * 10 + minor, env!("CUDA_COMPUTE_CAP"));
        check_capability(found, built_for).map_err(LoadError::UnsupportedDevice)?;
        let name = stream.context().name().unwrap_or_default();
        tracing::info!(name, compute_capability = %format!("{major}.{minor}"), "GPU");
    }
    Ok(device)
}

/// What to say of a GPU that cannot be opened.
#[cfg(any(feature = "cuda", test))]
fn unusable(error: &str) -> String {
    let advice = "check the machine's NVIDIA driver (580 or newer, for CUDA 13) with nvidia-smi; in a cluster also its container \
                  toolkit and spec.gpu.runtimeClassName; --device cpu runs the model on the CPU";
    if error.contains("STUB_LIBRARY") {
        return format!("there is no NVIDIA driver here: libcuda.so.1 cannot be loaded; {advice}");
    }
    format!("the GPU cannot be used: {error}; {advice}")
}

/// Machine code for 8.0 runs on 8.6 and 8.9, and newer GPUs make their own of what lies beside it. From 9.0 on a build is for
/// one kind of GPU alone.
#[cfg(any(feature = "cuda", test))]
fn check_capability(found: i32, built_for: &str) -> Result<(), String> {
    let wanted: i32 = built_for.parse().map_err(|_| format!("this build is for an unknown kind of GPU, {built_for}"))?;
    let fits = if wanted < 90 { found >= wanted } else { found == wanted };
    if fits {
        return Ok(());
    }
    let version = |capability: i32| format!("{}.{}", capability / 10, capability % 10);
    let (found, newer) = (version(found), if wanted < 90 { " and newer" } else { " alone" });
    Err(format!(
        "this GPU has compute capability {found}, and this build is for {}{newer}; take another GPU, or build the engine for it \
         (CUDA_COMPUTE_CAP), which works from 8.0 on",
        version(wanted)
    ))
}

/// An error without the backtrace that RUST_BACKTRACE adds to it.
pub fn plain(error: &Error) -> String {
    match error {
        Error::WithBacktrace { inner, .. } => plain(inner),
        other => other.to_string(),
    }
}

/// Whether an error, or a panic's message, says that the device's memory ran out.
pub fn is_out_of_memory(said: &str) -> bool {
    ["CUDA_ERROR_OUT_OF_MEMORY", "out of memory", "STATUS_ALLOC_FAILED"].iter().any(|words| said.contains(words))
}

/// Why a step did not happen.
pub fn step_error(error: &Error) -> StepError {
    let said = plain(error);
    if is_out_of_memory(&said) { StepError::OutOfMemory(said) } else { StepError::Failed(said) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_driver_is_told_from_a_gpu_that_is_not_there() {
        let missing = unusable("DriverError(CUDA_ERROR_STUB_LIBRARY, \"<Failure when calling cuGetErrorString()>\")");
        assert!(missing.starts_with("there is no NVIDIA driver here") && !missing.contains("DriverError"), "{missing}");
        let none = unusable("DriverError(CUDA_ERROR_NO_DEVICE, \"no CUDA-capable device is detected\")");
        assert!(none.contains("no CUDA-capable device is detected") && none.contains("spec.gpu.runtimeClassName"), "{none}");
    }

    #[test]
    fn an_older_gpu_than_the_build_is_for_is_refused() {
        for (found, built_for) in [(80, "80"), (86, "80"), (89, "80"), (90, "80"), (120, "80"), (90, "90")] {
            assert_eq!(check_capability(found, built_for), Ok(()), "{found} on {built_for}");
        }
        let refused = check_capability(75, "80").unwrap_err();
        assert!(refused.contains("7.5") && refused.contains("8.0 and newer"), "{refused}");
        assert!(check_capability(120, "90").unwrap_err().contains("9.0 alone"));
        assert!(check_capability(80, "").is_err());
    }

    #[test]
    fn memory_that_ran_out_is_told_from_other_errors() {
        let error = |said: &str| step_error(&Error::Msg(said.to_owned()));
        assert!(matches!(error("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")"), StepError::OutOfMemory(_)));
        assert!(matches!(error("CublasError(CUBLAS_STATUS_ALLOC_FAILED)"), StepError::OutOfMemory(_)));
        assert!(matches!(error("DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"...\")"), StepError::Failed(_)));
    }

    #[test]
    fn an_error_is_told_without_its_backtrace() {
        let backtrace = Box::new(std::backtrace::Backtrace::force_capture());
        let error = Error::WithBacktrace { inner: Box::new(Error::Msg("no room".to_owned())), backtrace };
        assert_eq!(plain(&error), "no room");
    }
}
