//! The model that is being served, as the API layer sees it: a slot that is empty while the model loads.

use std::sync::{Arc, OnceLock};

use crate::model::generation_config::GenerationConfig;
use crate::scheduler::Scheduler;
use crate::text::Text;
use crate::text::tool_calls::ToolCallFormat;

/// A loaded model.
pub struct Served {
    /// Name in requests and answers.
    pub name: String,
    /// Unix seconds of the moment it was loaded.
    pub created: u64,
    /// Longest prompt and completion together, in tokens.
    pub max_model_len: u32,
    /// Defaults of requests.
    pub generation: GenerationConfig,
    /// Template, tokenizer, detokenizer.
    pub text: Arc<Text>,
    /// How the model writes tool calls, if that is known.
    pub tool_call_format: Option<ToolCallFormat>,
    /// Takes requests.
    pub scheduler: Scheduler,
}

/// Empty until the model is loaded.
#[derive(Default, Clone)]
pub struct ServedSlot(Arc<OnceLock<Served>>);

impl ServedSlot {
    /// The model, once it is loaded.
    pub fn get(&self) -> Option<&Served> {
        self.0.get()
    }

    /// Fills the slot; a second call is ignored.
    pub fn fill(&self, served: Served) {
        drop(self.0.set(served));
    }
}
