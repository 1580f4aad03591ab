//! Weights that depend on the seed and on the tensor's name alone, whatever else is drawn.

use candle_core::{Device, Result, Tensor};

/// Spread of the logits: wide enough that the two best are hardly ever nearly equal, so that rounding decides nothing.
pub const LOGITS: f64 = 8.0;
/// Gain of the attention's matrices: enough that it picks tokens out of the context, so that a wrong KV shows.
pub const ATTENTION: f64 = 2.5;
/// Gain of the feed-forward matrices: little enough that the last token alone does not decide.
pub const FEEDING: f64 = 1.0;

/// Where weights are drawn from.
pub struct Weights {
    seed: u64,
}

impl Weights {
    /// Draws from a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// A matrix that turns inputs of unit variance into outputs of `gain` squared; the last dimension is the input's.
    pub fn matrix(&self, name: &str, shape: &[usize], gain: f64) -> Result<Tensor> {
        let input = shape.last().copied().unwrap_or(1);
        self.tensor(name, shape, 0.0, gain / (input as f64).sqrt())
    }

    /// The same, evenly spread and drawn many times as fast: for millions of weights.
    pub fn even_matrix(&self, name: &str, shape: &[usize], gain: f64) -> Result<Tensor> {
        let input = shape.last().copied().unwrap_or(1);
        // A number from -1 to 1 has a variance of a third.
        let scale = (gain * (3.0 / input as f64).sqrt()) as f32 / 2_f32.powi(31);
        let mut numbers = SplitMix::new(self.seed, name);
        let count: usize = shape.iter().product();
        let mut values = Vec::with_capacity(count + 1);
        while values.len() < count {
            let bits = numbers.next();
            // Two numbers of 32 bits, with a sign.
            values.extend([bits as u32, (bits >> 32) as u32].map(|half| half.cast_signed() as f32 * scale));
        }
        values.truncate(count);
        Tensor::from_vec(values, shape, &Device::Cpu)
    }

    /// Scales of a norm, which gives its outputs a variance of `gain` squared.
    pub fn scales(&self, name: &str, size: usize, gain: f64) -> Result<Tensor> {
        self.tensor(name, &[size], gain, 0.1 * gain)
    }

    /// A bias.
    pub fn bias(&self, name: &str, size: usize) -> Result<Tensor> {
        self.tensor(name, &[size], 0.0, 0.1)
    }

    /// The output matrix. Its rows from `usable` on are zero: special tokens are never the best.
    pub fn output(&self, name: &str, usable: usize, rows: usize, input: usize) -> Result<Tensor> {
        let words = self.matrix(name, &[usable, input], LOGITS)?;
        let special = Tensor::zeros((rows - usable, input), words.dtype(), words.device())?;
        Tensor::cat(&[words, special], 0)
    }

    fn tensor(&self, name: &str, shape: &[usize], mean: f64, deviation: f64) -> Result<Tensor> {
        let mut numbers = SplitMix::new(self.seed, name);
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| (mean + deviation * numbers.normal()) as f32).collect();
        Tensor::from_vec(values, shape, &Device::Cpu)
    }
}

/// The generator SplitMix64: a few lines that no version of a crate changes.
struct SplitMix(u64);

impl SplitMix {
    fn new(seed: u64, name: &str) -> Self {
        // FNV-1a.
        let hash =
            name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        Self(hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Above 0, at most 1.
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Of mean 0 and variance 1, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}
