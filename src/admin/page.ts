/** The page at `/` of the internal listener where the dashboard was not built. */
export function landingPage(gatewayId: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Evenkeel gateway ${escapeHtml(gatewayId)}</title>
</head>
<body>
<h1>Evenkeel gateway <code>${escapeHtml(gatewayId)}</code></h1>
<p>This is the internal listener: nodes connect here, and operators watch and steer the gateway.
The dashboard was not built: <code>npm run build</code> makes it. The API answers in JSON, and the <code>evenkeel</code> command line uses the same API.</p>
<ul>
<li><a href="/api/v1/nodes">/api/v1/nodes</a>: nodes with weights, sessions and shares</li>
<li><a href="/api/v1/sessions">/api/v1/sessions</a>: sessions and where they are</li>
<li><a href="/api/v1/operations">/api/v1/operations</a>: drains, rebalances and migrations</li>
<li><a href="/api/v1/events">/api/v1/events</a>: what happens now, as Server-Sent Events</li>
<li><a href="/metrics">/metrics</a>: Prometheus metrics</li>
<li><a href="/readyz">/readyz</a>: whether clients can be served, and if not why</li>
</ul>
<p>When <code>EVENKEEL_ADMIN_TOKEN</code> is set, the API and the metrics want it as a bearer token, which a link cannot
send: use the command line or <code>curl</code>.</p>
</body>
</html>
`
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}
