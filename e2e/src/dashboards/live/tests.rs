//! The HTTP side against a server that answers as Grafana's and Tempo's documentation says; neither of them runs here.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;

/// What was asked: method, path with parameters, authorization and body.
type Asked = Arc<Mutex<Vec<(String, String, Option<String>, String)>>>;

/// Answers until the test ends.
async fn stub() -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Asked::default();
    let of_task = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let asked = of_task.clone();
            let service = service_fn(move |request| answer(request, asked.clone()));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (format!("http://{address}"), asked)
}

async fn answer(request: Request<Incoming>, asked: Asked) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let authorization = head.headers.get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (path, body) = (head.uri.to_string(), String::from_utf8_lossy(&body).into_owned());
    let tries = {
        let mut asked = asked.lock().unwrap();
        asked.push((head.method.to_string(), path.clone(), authorization, body));
        asked.iter().filter(|(_, known, ..)| *known == path).count()
    };
    let (status, answer) = match path.split('?').next().unwrap() {
        "/grafana/api/datasources" => (
            200,
            json!([
                {"type": "prometheus", "uid": "other", "isDefault": false},
                {"type": "prometheus", "uid": "prom", "isDefault": true},
                {"type": "tempo", "uid": "tempo", "isDefault": false},
            ]),
        ),
        "/grafana/api/dashboards/db" => (200, json!({"status": "success", "uid": "x", "url": "/grafana/d/x/name"})),
        "/grafana/api/datasources/proxy/uid/prom/api/v1/query_range" => {
            (200, json!({"status": "success", "data": {"result": [1, 2]}}))
        }
        "/grafana/api/datasources/proxy/uid/tempo/api/search" => (200, json!({"traces": [1]})),
        "/grafana/api/datasources/proxy/uid/tempo/api/metrics/query_range" => (400, json!("no local-blocks")),
        // A trace is not there at once.
        "/tempo/api/traces/0a" if tries == 1 => (404, json!("trace not found")),
        "/tempo/api/traces/0a" => (
            200,
            json!({"batches": [{"scopeSpans": [{"spans": [{
                "traceId": "AAAAAAAAAAAAAAAAAAAACg==", "spanId": "AQIDBAUGBwg=", "name": LLM_REQUEST,
                "startTimeUnixNano": "5", "endTimeUnixNano": "6",
            }]}]}]}),
        ),
        _ => (404, json!("not found")),
    };
    Ok(Response::builder().status(status).body(Full::new(Bytes::from(answer.to_string()))).unwrap())
}

async fn live() -> (Live, Asked) {
    let (url, asked) = stub().await;
    let variable = move |name: &str| match name {
        GRAFANA_URL => Some(format!("{url}/grafana/")),
        TEMPO_URL => Some(format!("{url}/tempo")),
        GRAFANA_TOKEN => Some("secret".to_owned()),
        _ => None,
    };
    (Live::new(variable).unwrap(), asked)
}

fn dashboard() -> Dashboard {
    super::super::all().unwrap().into_iter().find(|dashboard| dashboard.name == "service").unwrap()
}

#[test]
fn what_is_missing_is_named_with_what_to_set() {
    let error = Live::new(|name| (name == GRAFANA_URL).then(|| "http://grafana:3000".to_owned())).err().unwrap().to_string();
    assert!(error.contains("TEMPO_URL is not set") && error.contains("http://127.0.0.1:3200"), "{error}");
    let error = Live::new(|_| Some("tempo".to_owned())).err().unwrap().to_string();
    assert!(error.contains("no address"), "{error}");
}

#[tokio::test]
async fn a_dashboard_is_imported_whole_over_an_older_one() {
    let (live, asked) = live().await;
    assert!(live.otlp.ends_with(":4317"), "{}", live.otlp);
    assert!(live.import(&dashboard()).await.unwrap().ends_with("/grafana/d/x/name"));
    let (method, path, authorization, body) = asked.lock().unwrap()[0].clone();
    assert_eq!((method.as_str(), path.as_str()), ("POST", "/grafana/api/dashboards/db"));
    assert_eq!(authorization.as_deref(), Some("Bearer secret"));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["dashboard"]["uid"], &body["overwrite"]), (&json!("sojourn-service"), &json!(true)));
}

#[tokio::test]
async fn every_query_goes_through_its_data_source_and_a_refusal_is_told() {
    let (live, asked) = live().await;
    let dashboard = dashboard();
    let answers = live.ask(&dashboard, 7200.5).await.unwrap();
    assert_eq!(answers.len(), dashboard.queries().len());
    let of = |panel: &str| &answers.iter().find(|answer| answer.place.contains(panel)).unwrap().found;
    assert_eq!(*of("Errors A"), Ok(2));
    assert_eq!(*of("Slowest requests"), Ok(1));
    let refused = of("What slow requests have").as_ref().unwrap_err();
    assert!(refused.contains("400") && refused.contains("no local-blocks"), "{refused}");

    let asked = asked.lock().unwrap();
    let urls = asked.iter().map(|(_, path, ..)| Url::parse(&format!("http://stub{path}")).unwrap());
    let search = urls.clone().find(|url| url.path().ends_with("/api/search")).unwrap();
    let parameter = |name: &str| search.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
    assert!(parameter("q").starts_with(r#"{ resource.service.namespace=~".*""#), "{}", parameter("q"));
    assert_eq!((parameter("start").as_str(), parameter("end").as_str()), ("3600", "7200"));
}

#[tokio::test]
async fn a_trace_is_waited_for() {
    let (live, asked) = live().await;
    assert_eq!(live.trace("0a").await.unwrap().id(), 10);
    assert_eq!(asked.lock().unwrap().len(), 2);
}
