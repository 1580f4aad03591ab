//! Clients of one pod: each kind of request that a sampling rule is about.

use anyhow::{Context, Result};
use serde_json::json;
use sojourn_contract::journey::Parent;
use sojourn_contract::sampling::Rule;
use sojourn_contract::{attribute, metric};
use sojourn_e2e::chat::{Answer, Caller, Question};
use sojourn_e2e::pod::Pod;
use sojourn_e2e::wait::{self, Look};
use tokio::task::JoinSet;

/// A request that was made.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its id.
    pub id: String,
    /// What its caller said.
    pub parent: Parent,
    /// The rule that it was made for.
    pub meant: Option<Rule>,
}

/// Callers of one kind; all that have a trace share one.
pub struct Callers {
    parent: Parent,
    trace: Option<Caller>,
}

impl Callers {
    pub fn of(parent: Parent) -> Self {
        let trace = match parent {
            Parent::None => None,
            Parent::Sampled => Some(Caller::new(true)),
            Parent::Unsampled => Some(Caller::new(false)),
        };
        Self { parent, trace }
    }

    fn question(&self, content: &str, tokens: u32) -> Question {
        let question = Question::new(content).with("max_tokens", tokens);
        match &self.trace {
            Some(caller) => question.within(caller),
            None => question,
        }
    }

    fn asked(&self, answer: &Answer, meant: Option<Rule>) -> Asked {
        Asked { id: answer.request_id.clone(), parent: self.parent, meant }
    }

    async fn ask(&self, pod: &Pod, question: Question, status: u16, meant: Option<Rule>) -> Result<Asked> {
        let answer = pod.chat.ask(question, |_| {}).await?;
        assert_eq!(answer.status, status, "{answer:?}");
        Ok(self.asked(&answer, meant))
    }

    /// Nothing to say of them.
    pub async fn fine(&self, pod: &Pod) -> Result<Asked> {
        self.ask(pod, self.question("hello", 2), 200, None).await
    }

    /// Wrong requests are the client's fault, and no error.
    pub async fn rejected(&self, pod: &Pod) -> Result<Asked> {
        self.ask(pod, self.question("hello", 2).with("temperature", -1), 400, None).await
    }

    pub async fn failed(&self, pod: &Pod) -> Result<Asked> {
        self.ask(pod, self.question("[fail]", 2), 500, Some(Rule::Error)).await
    }

    /// Goes away after the first piece of the answer.
    pub async fn aborted(&self, pod: &Pod) -> Result<Asked> {
        let body = json!({"messages": [{"role": "user", "content": "hello"}], "max_tokens": 900, "stream": true});
        let mut request = reqwest::Client::new().post(format!("{}/v1/chat/completions", pod.url)).json(&body);
        if let Some(caller) = &self.trace {
            request = request.header("traceparent", caller.traceparent());
        }
        let mut response = request.send().await?.error_for_status()?;
        let id = response.headers().get("x-request-id").context("no request id")?.to_str()?.to_owned();
        response.chunk().await?.context("the stream has no first piece")?;
        Ok(Asked { id, parent: self.parent, meant: Some(Rule::Aborted) })
    }

    /// Its first token comes late.
    pub async fn slow_first_token(&self, pod: &Pod) -> Result<Asked> {
        self.ask(pod, self.question("[hang]", 1), 200, Some(Rule::SlowFirstToken)).await
    }

    /// Its answer takes long.
    pub async fn slow(&self, pod: &Pod, tokens: u32) -> Result<Asked> {
        self.ask(pod, self.question("hello", tokens), 200, Some(Rule::Slow)).await
    }

    /// `running` requests take every place, for so many tokens; then one waits.
    pub async fn slow_queue(&self, pod: &Pod, running: usize, tokens: u32) -> Result<Vec<Asked>> {
        let before = running_now(pod).await?;
        let blockers = (0..running).map(|_| self.question("hello", tokens));
        let (blockers, waiting) = tokio::try_join!(self.all(pod, blockers.collect()), async {
            until_running(pod, before + running).await?;
            self.ask(pod, self.question("hello", 2), 200, Some(Rule::SlowQueue)).await
        })?;
        Ok(blockers.into_iter().chain([waiting]).collect())
    }

    /// `running` requests take every place, one of them less urgent than the others; then a more urgent one takes its place.
    pub async fn preempted(&self, pod: &Pod, running: usize, tokens: u32) -> Result<Vec<Asked>> {
        let before = running_now(pod).await?;
        let others = (1..running).map(|_| self.question("hello", tokens)).collect();
        let victim = self.question("hello", tokens).with("priority", 5);
        let (others, victim, urgent) =
            tokio::try_join!(self.all(pod, others), self.ask(pod, victim, 200, Some(Rule::Preempted)), async {
                until_running(pod, before + running).await?;
                self.ask(pod, self.question("hello", 2).with("priority", -5), 200, None).await
            })?;
        Ok(others.into_iter().chain([victim, urgent]).collect())
    }

    async fn all(&self, pod: &Pod, questions: Vec<Question>) -> Result<Vec<Asked>> {
        let mut running = JoinSet::new();
        for question in questions {
            let chat = pod.chat.clone();
            running.spawn(async move { chat.ask(question, |_| {}).await });
        }
        let mut asked = Vec::new();
        while let Some(ended) = running.join_next().await {
            asked.push(self.asked(&ended??, None));
        }
        Ok(asked)
    }
}

async fn running_now(pod: &Pod) -> Result<usize> {
    Ok(pod.engine_metrics().await?.sum(&metric::NUM_REQUESTS_RUNNING.series(), &[]) as usize)
}

async fn until_running(pod: &Pod, count: usize) -> Result<()> {
    wait::quietly(&format!("{count} requests run"), std::time::Duration::from_secs(20), async || {
        let running = running_now(pod).await?;
        Ok(if running >= count { Look::Holds(()) } else { Look::NotYet(format!("{running} run")) })
    })
    .await
}

/// Asks so many short questions, at most `at_once` of them at a time, and answers their request ids.
pub async fn many(pod: &Pod, count: usize, at_once: usize, question: impl Fn(usize) -> Question) -> Result<Vec<Answer>> {
    let mut running = JoinSet::new();
    let mut answers = Vec::new();
    answers.resize_with(count, Answer::default);
    for index in 0..count {
        if running.len() >= at_once
            && let Some(ended) = running.join_next().await
        {
            let (index, answer) = ended??;
            answers[index] = answer;
        }
        let (chat, question) = (pod.chat.clone(), question(index));
        running.spawn(async move { anyhow::Ok((index, chat.ask(question, |_| {}).await?)) });
    }
    while let Some(ended) = running.join_next().await {
        let (index, answer): (usize, Answer) = ended??;
        answers[index] = answer;
    }
    if let Some(wrong) = answers.iter().find(|answer| answer.status != 200) {
        anyhow::bail!("a request was not answered: {wrong:?}");
    }
    Ok(answers)
}

/// A request of no interest.
pub fn plain(_: usize) -> Question {
    Question::new("hello").with("max_tokens", 1)
}

/// What stands for a span, whoever wrote it: its name, the sequence that it belongs to, and when it began.
pub fn identity(span: &sojourn_journey::trace::Span) -> (String, Option<i64>, u64) {
    (span.name.to_string(), span.attributes.int(attribute::SEQUENCE_INDEX), span.start_unix_nanos)
}
