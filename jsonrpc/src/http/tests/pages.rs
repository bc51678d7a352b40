//! What stands at other paths than `/rpc`, and who may see it.

use super::*;

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n")
}

const LOCAL: &str = "Host: localhost:80\r\n";

#[tokio::test]
async fn pages_have_their_type_and_keep_browsers_safe() {
    let rig = Rig::start(false).await;
    let (status, head, body) = rig.raw(get("/?query=1", LOCAL)).await;
    assert_eq!((status, body.as_str()), (200, "<p>front"));
    for line in [
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'none'; script-src 'self'",
        "frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        "cross-origin-resource-policy: same-origin",
    ] {
        assert!(head.contains(line), "{line} in\n{head}");
    }
    let (status, head, body) = rig.raw(get("/", LOCAL).replace("GET", "HEAD")).await;
    assert_eq!((status, body.as_str()), (200, ""));
    assert!(head.contains("content-length: 8"), "{head}");
    assert_eq!(rig.raw(get("/sick", LOCAL)).await.0, 503);
    let (status, head, _) = rig.raw(get("/none", LOCAL)).await;
    assert!(status == 404 && head.contains("nosniff"), "{head}");
    let (status, head, _) = rig.raw(get("/", LOCAL).replace("GET", "DELETE")).await;
    assert!(status == 405 && head.contains("allow: get, head"), "{head}");
    assert_eq!(rig.raw(get("/rpc", LOCAL)).await.0, 405, "calls are made by POST");
    rig.end().await;
}

#[tokio::test]
async fn other_sites_get_nothing() {
    let rig = Rig::start(true).await;
    for headers in [
        "Host: evil.example\r\n",
        "",
        "Host: localhost\r\nHost: localhost\r\n",
        "Host: localhost\r\nOrigin: http://evil.example\r\n",
        "Host: localhost\r\nOrigin: null\r\n",
        "Host: localhost\r\nOrigin: http://localhost:8080\r\n",
    ] {
        let (status, _, body) = rig.raw(get("/", headers)).await;
        assert_eq!(status, 403, "{headers}");
        assert!(!body.contains("front"));
        let call = request(json!(1), "change", json!([])).to_string();
        let call = post(&bearer(TOKEN), &call).replace("Host: localhost\r\n", headers);
        assert_eq!(rig.raw(call).await.0, 403, "{headers}");
    }
    assert_eq!(rig.facts.changes.load(Ordering::Relaxed), 0);
    for headers in ["Host: known.example:1\r\n", "Host: localhost\r\nOrigin: http://localhost\r\n"]
    {
        assert_eq!(rig.raw(get("/", headers)).await.0, 200, "{headers}");
    }
    // What a page may send elsewhere without asking has another type.
    let call = request(json!(1), "get", json!([])).to_string();
    let form = post("", &call).replace("application/json", "text/plain");
    assert_eq!(rig.raw(form).await.0, 415);
    rig.end().await;
}

#[tokio::test]
async fn methods_are_not_served_before_the_site_says_so() {
    let rig = Rig::start(true).await;
    rig.facts.closed.store(true, Ordering::Relaxed);
    let call = request(json!(1), "get", json!([])).to_string();
    let (status, body) = rig.post("", &call).await;
    assert_eq!((status, body.as_str()), (503, "it starts\n"));
    assert_eq!(rig.raw(get("/", LOCAL)).await.0, 200, "pages are");
    rig.facts.closed.store(false, Ordering::Relaxed);
    assert_eq!(rig.post("", &call).await.0, 200);
    rig.end().await;
}
