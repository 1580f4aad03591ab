//! How much arithmetic a GGUF file's model needs, read from its header, and how much the processor can do, timed.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Instant;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};

use crate::backend::architecture::Architecture;

/// Rows and columns of the matrices that are multiplied: a few hundredths of a second on one core.
const SIZE: usize = 1024;
/// Timings of which the best counts; the first also warms up caches and threads.
const TIMES: usize = 4;

/// Reads the file's header again; `None` where it does not say enough.
pub fn architecture(path: &Path) -> Option<Architecture> {
    let content = Content::read(&mut BufReader::new(File::open(path).ok()?)).ok()?;
    let name = content.metadata.get("general.architecture")?.to_string().ok()?;
    let number = |key: &str| content.metadata.get(key)?.to_u64().ok();
    let tensors = content.tensor_infos.iter().map(|(name, tensor)| (name.as_str(), tensor.shape.dims()));
    Architecture::from_gguf(name, number, tensors)
}

/// Floating-point operations a second of a product of two F32 matrices, the best of a few.
pub fn measure_flops(device: &Device) -> Option<f64> {
    let matrix = || Tensor::rand(-1f32, 1f32, (SIZE, SIZE), device).ok();
    let (a, b) = (matrix()?, matrix()?);
    let seconds = || {
        let begun = Instant::now();
        drop(a.matmul(&b).ok()?);
        device.synchronize().ok()?;
        Some(begun.elapsed().as_secs_f64())
    };
    let timings: Option<Vec<f64>> = (0..TIMES).map(|_| seconds()).collect();
    let best = timings?.into_iter().min_by(f64::total_cmp)?;
    (best > 0.0).then(|| 2.0 * (SIZE as f64).powi(3) / best)
}
