//! How much arithmetic a model needs for its tokens. Pure.

/// What of a model's architecture its arithmetic follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture {
    /// Weights that every token is multiplied with.
    pub body_parameters: u64,
    /// Weights of the output layer, with which only positions are multiplied whose logits are wanted.
    pub head_parameters: u64,
    /// Floating-point operations for each position that a token attends to, in all layers together.
    pub attention_flops: u64,
}

/// Tokens of one step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Tokens that were computed.
    pub computed: u64,
    /// Positions that they attend to, each token its own and all before it, summed up.
    pub attended: u64,
    /// Tokens whose logits were wanted.
    pub rows: u64,
}

impl Tokens {
    /// `count` tokens of one sequence from position `start` on.
    pub fn of_sequence(start: u64, count: u64, wanted: bool) -> Self {
        Self { computed: count, attended: count * start + count * (count + 1) / 2, rows: u64::from(wanted) }
    }

    /// These and others.
    pub fn and(self, other: Self) -> Self {
        Self {
            computed: self.computed + other.computed,
            attended: self.attended + other.attended,
            rows: self.rows + other.rows,
        }
    }
}

impl Architecture {
    /// Floating-point operations for these tokens: two for each weight that a token is multiplied with, and attention.
    /// Attention counts the whole context, also where a model attends to a window of it.
    pub fn flops(&self, tokens: Tokens) -> u64 {
        2 * self.body_parameters * tokens.computed
            + 2 * self.head_parameters * tokens.rows
            + self.attention_flops * tokens.attended
    }

    /// Reads it from a GGUF file's metadata and tensors (name and dimensions); `None` where the metadata lacks what it
    /// takes.
    pub fn from_gguf<'a>(
        architecture: &str,
        number: impl Fn(&str) -> Option<u64>,
        tensors: impl Iterator<Item = (&'a str, &'a [usize])>,
    ) -> Option<Self> {
        let of_model = |key: &str| number(&format!("{architecture}.{key}"));
        let (layers, heads) = (of_model("block_count")?, of_model("attention.head_count")?);
        let head_width = of_model("embedding_length")?.checked_div(heads)?;
        let key_width = of_model("attention.key_length").unwrap_or(head_width);
        let value_width = of_model("attention.value_length").unwrap_or(head_width);
        let experts = of_model("expert_count").filter(|count| *count > 0);
        let used = of_model("expert_used_count");

        let (mut body_parameters, mut head_parameters, mut embedding) = (0, 0, 0);
        for (name, dimensions) in tensors {
            let parameters: u64 = dimensions.iter().map(|dimension| *dimension as u64).product();
            match name {
                "output.weight" => head_parameters = parameters,
                // Looked up, not multiplied, unless it is the output layer too.
                "token_embd.weight" => embedding = parameters,
                "position_embd.weight" => {}
                // Norms and biases.
                _ if dimensions.len() < 2 => {}
                _ if name.contains("_exps.") => body_parameters += parameters / experts? * used?,
                _ => body_parameters += parameters,
            }
        }
        if head_parameters == 0 {
            head_parameters = embedding;
        }
        Some(Self { body_parameters, head_parameters, attention_flops: 2 * layers * heads * (key_width + value_width) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_attend_to_themselves_and_to_what_is_before_them() {
        assert_eq!(Tokens::of_sequence(0, 1, true), Tokens { computed: 1, attended: 1, rows: 1 });
        // Positions 2, 3 and 4 attend to 3, 4 and 5 positions.
        assert_eq!(Tokens::of_sequence(2, 3, false), Tokens { computed: 3, attended: 12, rows: 0 });
        let both = Tokens::of_sequence(0, 1, true).and(Tokens::of_sequence(2, 3, false));
        assert_eq!(both, Tokens { computed: 4, attended: 13, rows: 1 });
    }

    #[test]
    fn flops_are_two_for_each_weight_and_attention_for_each_position() {
        let architecture = Architecture { body_parameters: 1000, head_parameters: 100, attention_flops: 16 };
        // 3 tokens x 2 x 1000, 1 row x 2 x 100, 12 positions x 16.
        assert_eq!(architecture.flops(Tokens { computed: 3, attended: 12, rows: 1 }), 6000 + 200 + 192);
    }

    /// SmolLM2-135M: 30 layers of 576, 9 heads and 3 KV heads of 64, 1536 in the feed-forward layer, 49152 tokens.
    #[test]
    fn a_llama_with_tied_embeddings_is_read_from_its_file() {
        let number = |key: &str| match key {
            "llama.block_count" => Some(30),
            "llama.attention.head_count" => Some(9),
            "llama.embedding_length" => Some(576),
            _ => None,
        };
        let block: [(&str, &[usize]); 9] = [
            ("blk.0.attn_q.weight", &[576, 576]),
            ("blk.0.attn_k.weight", &[192, 576]),
            ("blk.0.attn_v.weight", &[192, 576]),
            ("blk.0.attn_output.weight", &[576, 576]),
            ("blk.0.ffn_gate.weight", &[1536, 576]),
            ("blk.0.ffn_up.weight", &[1536, 576]),
            ("blk.0.ffn_down.weight", &[576, 1536]),
            ("blk.0.attn_norm.weight", &[576]),
            ("blk.0.ffn_norm.weight", &[576]),
        ];
        let embedding: (&str, &[usize]) = ("token_embd.weight", &[49152, 576]);
        let tensors = std::iter::once(embedding).chain(std::iter::repeat_n(block, 30).flatten());
        let architecture = Architecture::from_gguf("llama", number, tensors).unwrap();
        assert_eq!(architecture.body_parameters, 30 * 3_538_944);
        assert_eq!(architecture.head_parameters, 28_311_552);
        // 30 layers x 9 heads x (64 for the scores + 64 for the values) x 2.
        assert_eq!(architecture.attention_flops, 69_120);
    }

    #[test]
    fn a_token_meets_only_the_experts_that_it_is_sent_to() {
        let number = |key: &str| match key {
            "qwen3moe.block_count" | "qwen3moe.attention.head_count" => Some(1),
            "qwen3moe.embedding_length" => Some(8),
            "qwen3moe.attention.key_length" => Some(4),
            "qwen3moe.attention.value_length" => Some(2),
            "qwen3moe.expert_count" => Some(16),
            "qwen3moe.expert_used_count" => Some(2),
            _ => None,
        };
        let tensors: [(&str, &[usize]); 3] =
            [("output.weight", &[10, 8]), ("token_embd.weight", &[10, 8]), ("blk.0.ffn_up_exps.weight", &[16, 3, 8])];
        let architecture = Architecture::from_gguf("qwen3moe", number, tensors.into_iter()).unwrap();
        assert_eq!(architecture, Architecture { body_parameters: 48, head_parameters: 80, attention_flops: 12 });
    }

    #[test]
    fn a_file_that_does_not_say_enough_gives_none() {
        assert_eq!(Architecture::from_gguf("llama", |_| None, std::iter::empty()), None);
    }
}
