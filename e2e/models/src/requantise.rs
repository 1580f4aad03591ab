//! Rewrites a GGUF file with its matrices in another type. Everything else (metadata, tokenizer, norms) is kept.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use candle_core::Device;
use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};

/// Types that matrices can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dtype {
    /// 8 bits in blocks of 32: candle has a SIMD kernel for it.
    #[value(name = "q8_0")]
    Q8_0,
    /// 4 bits in blocks of 32.
    #[value(name = "q4_0")]
    Q4_0,
    /// 32-bit floats.
    #[value(name = "f32")]
    F32,
}

impl From<Dtype> for GgmlDType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Q8_0 => Self::Q8_0,
            Dtype::Q4_0 => Self::Q4_0,
            Dtype::F32 => Self::F32,
        }
    }
}

/// Reads `from` and writes `to`, which appears only when it is complete.
pub fn requantise(from: &Path, to: &Path, dtype: Dtype) -> anyhow::Result<()> {
    let mut source = File::open(from).with_context(|| format!("cannot open {}", from.display()))?;
    let content = Content::read(&mut source).with_context(|| format!("{} is no GGUF file", from.display()))?;
    let mut names: Vec<&String> = content.tensor_infos.keys().collect();
    names.sort();
    let mut tensors = Vec::with_capacity(names.len());
    for name in names {
        tensors.push((name.as_str(), convert(&content, &mut source, name, dtype.into())?));
    }
    let metadata: Vec<_> = content.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    write_file(to, &metadata, &tensors)
}

/// Writes a GGUF file, which appears only when it is complete.
pub fn write_file(to: &Path, metadata: &[(&str, &Value)], tensors: &[(&str, &QTensor)]) -> anyhow::Result<()> {
    let partial = to.with_extension("partial");
    let mut file = BufWriter::new(File::create(&partial).with_context(|| format!("cannot write {}", partial.display()))?);
    gguf_file::write(&mut file, metadata, tensors)?;
    file.flush()?;
    std::fs::rename(&partial, to).with_context(|| format!("cannot write {}", to.display()))
}

fn convert(content: &Content, source: &mut File, name: &str, dtype: GgmlDType) -> anyhow::Result<QTensor> {
    let tensor = content.tensor(source, name, &Device::Cpu).with_context(|| format!("cannot read tensor {name}"))?;
    if tensor.shape().dims().len() != 2 {
        return Ok(tensor);
    }
    let matrix = tensor.dequantize(&Device::Cpu)?;
    QTensor::quantize(&matrix, dtype).with_context(|| format!("cannot write tensor {name} as {dtype:?}"))
}
