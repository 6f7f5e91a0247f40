//! What was sent to the servers, and who answered for `ads.example`.

/// Behind GET, with another host in the field and with none.
pub(super) const TARGETS: &[&[u8]] = &[
    // nginx, apache, apache*, apache proxy and 19 more
    b"http://ads.example/",
    // haproxy, node, node*
    b"http:///ads.example/",
    // haproxy, node, node*, gunicorn and 1 more
    b"http:////ads.example/",
    // haproxy, node, node*, gunicorn and 4 more
    b"//ads.example/",
    // haproxy, node, node*
    b"///ads.example/",
    // node
    b"/\\ads.example/",
    // nginx, apache, apache*, apache proxy and 19 more
    b"HTTP://ads.example/",
    // nginx, apache, apache*, apache proxy and 19 more
    b"hTTp://ads.example/",
    // nginx, haproxy*, node, node* and 12 more
    b"https://ads.example/",
    // nginx, apache proxy, apache* proxy, haproxy* and 12 more
    b"ws://ads.example/",
    // nginx, haproxy*, node, node* and 10 more
    b"ftp://ads.example/",
    // nginx, haproxy*, node, node* and 10 more
    b"ftp://ads.example/x",
    // nginx, haproxy*, node, node* and 10 more
    b"foo://ads.example/",
    // nginx, haproxy*, node, node* and 10 more
    b"gopher://ads.example/",
    // apache*, apache* proxy, node, node* and 13 more
    b"http://good.example@ads.example/",
    // apache*, apache* proxy, node, node* and 13 more
    b"http://a:b@ads.example/",
    // apache*, apache* proxy, node, node* and 9 more
    b"http://good.example@x@ads.example/",
    // apache*, apache* proxy, tinyproxy, privoxy and 6 more
    b"http://good.example\\@ads.example/",
    // apache* proxy, tinyproxy, privoxy
    b"http://good.example#@ads.example/",
    // apache proxy, apache* proxy, tinyproxy, privoxy
    b"http://good.example?@ads.example/",
    // apache*, http.server, gunicorn, waitress and 3 more
    b"http://ads.example#@good.example/",
    // nginx, apache, apache*, apache proxy and 19 more
    b"http://ads.example:80/",
    // nginx, apache, apache*, haproxy* and 14 more
    b"http://ads.example:/",
    // apache*, apache* proxy, node, node* and 13 more
    b"http://:80@ads.example/",
    // apache*, apache* proxy, node, node* and 13 more
    b"http://@ads.example/",
    // nginx, apache, apache*, apache proxy and 15 more
    b"http://ads.example",
    // nginx, apache, apache*, apache proxy and 13 more
    b"http://ads.example?x",
    // apache*, apache* proxy, http.server, gunicorn and 4 more
    b"http://ads.example#x",
    // http.server, gunicorn, waitress, h11
    b"http://ads.example:80:81/",
    // tinyproxy, http.server, gunicorn, waitress and 1 more
    b"http://ads.example:x/",
    // tinyproxy, http.server, gunicorn, waitress and 2 more
    b"http://ads.example:80x/",
    // nginx, haproxy*, caddy, http.server and 5 more
    b"http+x://ads.example/",
    // gunicorn, waitress, werkzeug
    b"x:http://ads.example/",
    // apache, apache*, tinyproxy, privoxy and 2 more
    b"http://[ads.example]/",
    // nginx, apache, apache*, haproxy* and 3 more
    b"http://ads.example./",
    // waitress
    b"ht\ttp://ads.example/",
    // waitress
    b"http:/\t/ads.example/",
    // waitress
    b"http://a\tds.example/",
    // haproxy*, tinyproxy, privoxy, http.server and 4 more
    b"\thttp://ads.example/",
    // tinyproxy
    b"http://ads.example\x00.x/",
    // gunicorn, waitress, werkzeug
    b"url:http://ads.example/",
    // gunicorn, waitress, werkzeug
    b"view-source:http://ads.example/",
    // node, node*, haproxy
    b"http://%61ds.example/",
    // squid
    b"http://ads.example../",
];

/// As the value of a Host field.
pub(super) const VALUES: &[&[u8]] = &[
    // nginx, apache, apache*, lighttpd and 18 more
    b"ads.example",
    // haproxy, node, node*
    b"//ads.example/",
    // haproxy, node, node*
    b"//ads.example",
    // haproxy, node, node*
    b"/ads.example",
    // haproxy, node, node*, http.server and 7 more
    b"ads.example/path",
    // haproxy, node, node*, http.server and 7 more
    b"ads.example/",
    // haproxy, node, node*, http.server and 7 more
    b"ads.example?x",
    // haproxy, node, node*, http.server and 7 more
    b"ads.example#x",
    // haproxy, node, node*, http.server and 7 more
    b"user@ads.example",
    // haproxy, node, node*, http.server and 7 more
    b"a:b@ads.example",
    // haproxy, haproxy*
    b"ads.example, good.example",
    // haproxy, haproxy*
    b"good.example, ads.example",
    // haproxy, haproxy*
    b"ads.example,good.example",
    // haproxy, haproxy*
    b"good.example,ads.example",
    // haproxy, node, node*
    b"ads.example\\x",
    // haproxy, node, node*
    b"ads.example\\@good.example",
    // http.server, gunicorn, waitress, h11 and 4 more
    b"good.example\\@ads.example",
    // nginx, apache, apache*, lighttpd and 18 more
    b"ads.example:80",
    // nginx, lighttpd, lighttpd*, haproxy and 15 more
    b"ads.example:",
    // nginx, haproxy*, tinyproxy, http.server and 9 more
    b"ads.example:80:81",
    // nginx, haproxy, haproxy*, caddy and 10 more
    b"ads.example:x",
    // haproxy, haproxy*, node, node* and 10 more
    b"ads.example:80/x",
    // lighttpd*, haproxy, haproxy*, tinyproxy and 9 more
    b"ads.example: 80",
    // haproxy, node, node*, http.server and 7 more
    b":80@ads.example",
    // tinyproxy
    b":ads.example",
    // haproxy, node, node*, http.server and 7 more
    b"@ads.example",
    // caddy, aiohttp
    b"[ads.example]",
    // nginx, apache, apache*, lighttpd and 3 more
    b"ads.example.",
    // tinyproxy
    b"ads.example\x00good.example",
    // haproxy, node*, jdk
    b"ads.example\x01",
    // haproxy, node*, cheroot, jdk
    b"ads.example\x0b",
    // cheroot, jdk
    b"\x0bads.example",
    // cheroot, jdk
    b"\x0cads.example",
    // haproxy, node, node*
    b"%61ds.example",
    // nginx, apache, apache*, lighttpd and 18 more
    b"ADS.EXAMPLE",
    // haproxy, node, node*, http.server and 7 more
    b"a\tds.example",
    // nginx, tinyproxy, http.server, cheroot and 2 more
    b"ads.example\r",
    // haproxy, node, node*
    b"ads.example\xad",
    // nginx, haproxy, haproxy*, tinyproxy and 11 more
    b"ads.example:80,good.example",
    // aiohttp
    b"ads\xe3\x80\x82example",
];

/// In front of a Host field.
pub(super) const LINES: &[&[u8]] = &[
    // haproxy*, jdk
    b"GET / FOO",
    // haproxy*, jdk
    b"GET / FOO/1.1",
    // haproxy*, jdk
    b"GET / HTP/1.1",
    // apache*, tinyproxy, jdk
    b"GET / http/1.1",
    // apache*, tinyproxy, jdk
    b"GET / Http/1.1",
    // haproxy*, jdk
    b"GET / HTTP/1",
    // haproxy*, jdk
    b"GET / HTTP/1.",
    // haproxy*, jdk
    b"GET / HTTP/.1",
    // haproxy*, jdk
    b"GET / HTTP/11",
    // nginx, lighttpd*, haproxy*, tinyproxy and 3 more
    b"GET / HTTP/1.10",
    // haproxy*, tinyproxy, http.server, cheroot and 2 more
    b"GET / HTTP/01.1",
    // nginx, lighttpd*, haproxy*, tinyproxy and 4 more
    b"GET / HTTP/1.01",
    // apache, apache*, haproxy, haproxy* and 8 more
    b"GET / HTTP/2.0",
    // haproxy, haproxy*, node, node* and 8 more
    b"GET / HTTP/0.9",
    // apache, apache*, haproxy, haproxy* and 5 more
    b"GET / HTTP/9.9",
    // haproxy*, jdk
    b"GET / HTTP",
    // haproxy*, jdk
    b"GET / HTTP/",
    // lighttpd*, tinyproxy, jdk
    b"GET / HTTP/1.1x",
    // lighttpd*, tinyproxy, jdk
    b"GET / HTTP/1.1 x",
    // jdk
    b"GET / HTTP/1,1",
    // jdk
    b"GET / HTTP /1.1",
    // haproxy*, jdk
    b"GET / XHTTP/1.1",
    // haproxy*, node, node*, httptools and 3 more
    b"GET / RTSP/1.0",
    // haproxy*, jdk
    b"GET / ICE/1.0",
    // haproxy*, jdk
    b"GET / SIP/2.0",
    // jdk
    b"GET / S-HTTP/1.1",
    // haproxy*, jdk
    b"GET / IMAP",
    // node, node*, tinyproxy, http.server and 4 more
    b"GET /x",
    // node, node*, tinyproxy, http.server and 4 more
    b"GET /",
    // tinyproxy, http.server, waitress, werkzeug
    b"GET x",
    // nginx, apache*, apache* proxy, haproxy* and 9 more
    b"GET http://ads.example/",
    // tinyproxy, http.server, waitress, werkzeug
    b"GET http:/ads.example/",
    // node, node*, waitress, httptools and 1 more
    b"POST /",
    // haproxy*, jdk
    b"POST / FOO",
    // waitress
    b"HEAD /",
    // waitress
    b"FOO /",
    // haproxy, haproxy*, tinyproxy, caddy and 3 more
    b"get / HTTP/1.1",
    // tinyproxy, cheroot, werkzeug, jdk
    b"G(T / HTTP/1.1",
    // tinyproxy, cheroot, werkzeug, jdk
    b"G@T / HTTP/1.1",
    // cheroot, werkzeug, jdk
    b"GE\x00T / HTTP/1.1",
    // tinyproxy, cheroot, werkzeug, jdk
    b"\"GET\" / HTTP/1.1",
    // tinyproxy, cheroot, werkzeug, jdk
    b"GET, / HTTP/1.1",
    // tinyproxy, cheroot, werkzeug, jdk
    b"G:T / HTTP/1.1",
    // tinyproxy, cheroot, werkzeug, jdk
    b"G/T / HTTP/1.1",
    // tinyproxy, cheroot, werkzeug, jdk
    b"G\xffT / HTTP/1.1",
    // tinyproxy, cheroot, werkzeug, jdk
    b"\xef\xbb\xbfGET / HTTP/1.1",
    // cheroot, werkzeug, jdk
    b"\x00GET / HTTP/1.1",
    // cheroot, werkzeug, jdk
    b"\x00\x00GET / HTTP/1.1",
    // tinyproxy, cheroot, werkzeug, jdk
    b"\x01GET / HTTP/1.1",
    // http.server, waitress, cheroot, werkzeug
    b" GET / HTTP/1.1",
    // http.server, waitress, cheroot, werkzeug
    b"  GET / HTTP/1.1",
    // tinyproxy, http.server, waitress, cheroot and 2 more
    b"\tGET / HTTP/1.1",
    // tinyproxy, http.server, waitress, cheroot and 2 more
    b"\x0bGET / HTTP/1.1",
    // tinyproxy, http.server, cheroot, werkzeug and 1 more
    b"\xa0GET / HTTP/1.1",
    // haproxy, haproxy*, http.server, werkzeug
    b"GET\t/\tHTTP/1.1",
    // nginx, apache*, haproxy, haproxy* and 8 more
    b"GET  /  HTTP/1.1",
    // nginx, apache*, lighttpd*, tinyproxy and 5 more
    b"GET / HTTP/1.1 ",
    // lighttpd*, tinyproxy, http.server, waitress and 3 more
    b"GET / HTTP/1.1\t",
    // http.server, werkzeug
    b"GET\x0b/ HTTP/1.1",
    // http.server, werkzeug
    b"GET\x0c/ HTTP/1.1",
    // http.server, werkzeug
    b"GET\xa0/ HTTP/1.1",
    // http.server, werkzeug
    b"GET\x85/ HTTP/1.1",
    // http.server, werkzeug
    b"GET\x1f/ HTTP/1.1",
    // jdk
    b"GET / a b HTTP/1.1",
    // jdk
    b"GET /a b HTTP/1.1",
    // node, node*, tinyproxy, http.server and 4 more
    b"GET /HTTP/1.1",
    // tinyproxy, http.server, waitress, werkzeug
    b"GET HTTP/1.1",
    // haproxy, haproxy*, tinyproxy, caddy and 5 more
    b"1 / HTTP/1.1",
    // nginx, haproxy, haproxy*, tinyproxy and 6 more
    b"- / HTTP/1.1",
    // tinyproxy, http.server, cheroot, werkzeug
    b"GET /\r HTTP/1.1",
    // lighttpd*, tinyproxy, http.server, waitress and 3 more
    b"GET / HTTP/1.1\r",
    // lighttpd*, tinyproxy, jdk
    b"GET / HTTP/1.1\x00",
    // nginx, node, node*, tinyproxy and 9 more
    b"\rGET / HTTP/1.1",
    // tinyproxy, http.server, waitress, cheroot and 1 more
    b"GET /\x00 HTTP/1.1",
    // tinyproxy, jdk
    b"GET / \x00HTTP/1.1",
    // tinyproxy, caddy, waitress, h11
    b"PRI * HTTP/2.0",
    // tinyproxy, caddy, waitress, h11 and 1 more
    b"PRI * HTTP/1.1",
    // jdk
    b"GET / \xef\xbb\xbfHTTP/1.1",
    // tinyproxy, cheroot, werkzeug, jdk
    b"\xffGET / HTTP/1.1",
    // tinyproxy, cheroot, werkzeug, jdk
    b"\x16\x03\x01GET / HTTP/1.1",
    // haproxy, haproxy*, tinyproxy, caddy and 6 more
    b"%47ET / HTTP/1.1",
    // tinyproxy
    b"get x",
    // tinyproxy
    b"get /",
    // waitress
    b"FOO x",
    // apache* proxy, tinyproxy, squid
    b"get http://ads.example/",
    // haproxy*, tinyproxy, http.server, waitress and 2 more
    b"FOO x HTTP/1.1",
    // haproxy*, jdk
    b"hello / FOO",
    // jdk
    b"G(T / FOO",
    // tinyproxy, werkzeug
    b"G(T x HTTP/1.1",
    // apache* proxy, tinyproxy, werkzeug, jdk
    b"G(T http://ads.example/ HTTP/1.1",
    // werkzeug, jdk
    b"\x00GET http://ads.example/ HTTP/1.1",
    // apache* proxy
    b"G(T http://ads.example/",
    // haproxy*
    b"GET ads.example FOO",
    // haproxy*, jdk
    b"FOO http://ads.example/ FOO",
    // haproxy*, jdk
    b"FOO http://ads.example/ RTSP/1.0",
    // haproxy*, jdk
    b"FOO http:/x FOO",
    // haproxy*
    b"FOO \\x FOO",
    // haproxy*, jdk
    b"GET /\xe9 FOO",
    // jdk
    b"\x80 / x",
];

/// With a field for another host, in front of a second request.
pub(super) const FIRST: &[&[u8]] = &[
    // jdk
    b"GET / FOO",
    // jdk
    b"GET / FOO/1.1",
    // jdk
    b"GET / HTP/1.1",
    // apache*, jdk
    b"GET / http/1.1",
    // apache*, jdk
    b"GET / Http/1.1",
    // jdk
    b"GET / HTTP/1",
    // jdk
    b"GET / HTTP/1.",
    // jdk
    b"GET / HTTP/.1",
    // jdk
    b"GET / HTTP/11",
    // nginx, lighttpd*, http.server, jdk
    b"GET / HTTP/1.10",
    // http.server, cheroot, jdk
    b"GET / HTTP/01.1",
    // nginx, http.server, cheroot, jdk
    b"GET / HTTP/1.01",
    // apache, apache*, haproxy, haproxy* and 2 more
    b"GET / HTTP/2.0",
    // jdk
    b"GET / HTTP/0.9",
    // apache, apache*, haproxy, haproxy* and 3 more
    b"GET / HTTP/9.9",
    // jdk
    b"GET / HTTP",
    // jdk
    b"GET / HTTP/",
    // lighttpd*, jdk
    b"GET / HTTP/1.1x",
    // lighttpd*, jdk
    b"GET / HTTP/1.1 x",
    // jdk
    b"GET / HTTP/1,1",
    // jdk
    b"GET / HTTP /1.1",
    // jdk
    b"GET / XHTTP/1.1",
    // jdk
    b"GET / RTSP/1.0",
    // jdk
    b"GET / ICE/1.0",
    // jdk
    b"GET / SIP/2.0",
    // jdk
    b"GET / S-HTTP/1.1",
    // jdk
    b"GET / IMAP",
    // nginx, apache*, apache* proxy, haproxy* and 7 more
    b"GET http://ads.example/",
    // jdk
    b"POST / FOO",
    // haproxy, haproxy*, caddy, h11 and 2 more
    b"get / HTTP/1.1",
    // cheroot, jdk
    b"G(T / HTTP/1.1",
    // cheroot, jdk
    b"G@T / HTTP/1.1",
    // cheroot, jdk
    b"GE\x00T / HTTP/1.1",
    // cheroot, jdk
    b"\"GET\" / HTTP/1.1",
    // cheroot, jdk
    b"GET, / HTTP/1.1",
    // cheroot, jdk
    b"G:T / HTTP/1.1",
    // cheroot, jdk
    b"G/T / HTTP/1.1",
    // cheroot, jdk
    b"G\xffT / HTTP/1.1",
    // cheroot, jdk
    b"\xef\xbb\xbfGET / HTTP/1.1",
    // cheroot, jdk
    b"\x00GET / HTTP/1.1",
    // cheroot, jdk
    b"\x00\x00GET / HTTP/1.1",
    // cheroot, jdk
    b"\x01GET / HTTP/1.1",
    // http.server, waitress, cheroot
    b" GET / HTTP/1.1",
    // http.server, waitress, cheroot
    b"  GET / HTTP/1.1",
    // http.server, waitress, cheroot, jdk
    b"\tGET / HTTP/1.1",
    // http.server, waitress, cheroot, jdk
    b"\x0bGET / HTTP/1.1",
    // http.server, cheroot, jdk
    b"\xa0GET / HTTP/1.1",
    // haproxy, haproxy*, http.server
    b"GET\t/\tHTTP/1.1",
    // nginx, apache*, haproxy, haproxy* and 6 more
    b"GET  /  HTTP/1.1",
    // nginx, apache*, lighttpd*, http.server and 3 more
    b"GET / HTTP/1.1 ",
    // lighttpd*, http.server, waitress, cheroot and 1 more
    b"GET / HTTP/1.1\t",
    // http.server
    b"GET\x0b/ HTTP/1.1",
    // http.server
    b"GET\x0c/ HTTP/1.1",
    // http.server
    b"GET\xa0/ HTTP/1.1",
    // http.server
    b"GET\x85/ HTTP/1.1",
    // http.server
    b"GET\x1f/ HTTP/1.1",
    // lighttpd, lighttpd*, jdk
    b"GET / a b HTTP/1.1",
    // lighttpd, lighttpd*, jdk
    b"GET /a b HTTP/1.1",
    // haproxy, haproxy*, caddy, waitress and 4 more
    b"1 / HTTP/1.1",
    // nginx, haproxy, haproxy*, caddy and 5 more
    b"- / HTTP/1.1",
    // lighttpd*, http.server, cheroot
    b"GET /\r HTTP/1.1",
    // lighttpd*, http.server, waitress, cheroot and 2 more
    b"GET / HTTP/1.1\r",
    // lighttpd*, jdk
    b"GET / HTTP/1.1\x00",
    // nginx, node, node*, http.server and 7 more
    b"\rGET / HTTP/1.1",
    // lighttpd*, http.server, waitress, cheroot
    b"GET /\x00 HTTP/1.1",
    // jdk
    b"GET / \x00HTTP/1.1",
    // caddy, h11
    b"PRI * HTTP/2.0",
    // caddy, waitress, h11, tornado
    b"PRI * HTTP/1.1",
    // jdk
    b"GET / \xef\xbb\xbfHTTP/1.1",
    // cheroot, jdk
    b"\xffGET / HTTP/1.1",
    // cheroot, jdk
    b"\x16\x03\x01GET / HTTP/1.1",
    // haproxy, haproxy*, caddy, waitress and 4 more
    b"%47ET / HTTP/1.1",
    // apache* proxy, tinyproxy, squid
    b"get http://ads.example/",
    // haproxy*, http.server, waitress, h11 and 1 more
    b"FOO x HTTP/1.1",
    // jdk
    b"hello / FOO",
    // jdk
    b"G(T / FOO",
    // apache* proxy, tinyproxy, werkzeug, jdk
    b"G(T http://ads.example/ HTTP/1.1",
    // werkzeug, jdk
    b"\x00GET http://ads.example/ HTTP/1.1",
    // apache* proxy
    b"G(T http://ads.example/",
    // jdk
    b"FOO http://ads.example/ RTSP/1.0",
    // jdk
    b"FOO http:/x FOO",
    // jdk
    b"GET /\xe9 FOO",
    // jdk
    b"\x80 / x",
];

/// From the first byte on.
pub(super) const STREAMS: &[&[u8]] = &[
    // lighttpd*, cheroot
    b"GET / HTTP/1.1\r\nHost\t: ads.example\r\n\r\n",
    // lighttpd*, cheroot
    b"GET / HTTP/1.1\r\nHost : ads.example\r\n\r\n",
    // nginx, apache, apache*, lighttpd and 18 more
    b"GET / HTTP/1.1\r\nHOST:ads.example\r\n\r\n",
    // cheroot
    b"GET / HTTP/1.1\r\nHost\x0b: ads.example\r\n\r\n",
    // node*
    b"GET / HTTP/1.1\r\n Host: ads.example\r\n\r\n",
    // http.server, werkzeug, jdk
    b"GET / HTTP/1.1\r\nX: y\rHost: ads.example\r\n\r\n",
    // apache, apache*, haproxy, haproxy* and 7 more
    b"GET / HTTP/1.1\r\nHost:\r\n ads.example\r\n\r\n",
    // apache, apache*, haproxy, haproxy* and 9 more
    b"GET / HTTP/1.1\r\nHost:\r\n\tads.example\r\n\r\n",
    // haproxy, haproxy*, node*, caddy and 5 more
    b"GET / HTTP/1.1\r\nHost: \r\n  \r\n ads.example\r\n\r\n",
    // httptools, cheroot, nghttpx
    b"GET / HTTP/1.1\r\nHost: good.example\r\nHost: ads.example\r\n\r\n",
    // node, node*, tinyproxy, http.server and 1 more
    b"GET / HTTP/1.1\r\nHost: ads.example\r\nHost: good.example\r\n\r\n",
    // cheroot
    b"GET / HTTP/1.1\r\n\rHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET / http/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET / Http/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET / HTTP/1.10\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET / HTTP/01.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET / HTTP/1.01\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET / HTTP/2.0\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET / HTTP/0.9\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET / HTTP/9.9\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET / HTTP/1.1x\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET / HTTP/1.1 x\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET /x\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET /\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET x\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // nginx, apache*, apache* proxy, haproxy* and 4 more
    b"GET http://ads.example/\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET http:/ads.example/\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"get / HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"G(T / HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"G@T / HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"\"GET\" / HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET, / HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"G:T / HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"G/T / HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"G\xffT / HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"\xef\xbb\xbfGET / HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"\x01GET / HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"\tGET / HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"\x0bGET / HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"\xa0GET / HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET  /  HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET / HTTP/1.1 \r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET / HTTP/1.1\t\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET /HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"1 / HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"- / HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET /\r HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy, jdk
    b"GET / HTTP/1.1\r\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET / HTTP/1.1\x00\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // nginx, node, node*, tinyproxy and 6 more
    b"\r\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"\rGET / HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // nginx, apache, apache*, haproxy and 12 more
    b"\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // nginx, apache, apache*, haproxy and 9 more
    b"\r\n\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // waitress
    b"  \r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // waitress
    b"\t\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // waitress
    b"\x0b\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET /\x00 HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"GET / \x00HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"PRI * HTTP/2.0\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"PRI * HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"\xffGET / HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"\x16\x03\x01GET / HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // tinyproxy
    b"%47ET / HTTP/1.1\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // nginx, apache*, lighttpd*, haproxy and 8 more
    b"GET / HTTP/1.1\nHost: ads.example\n\n",
    // nginx, apache*, apache* proxy, haproxy* and 1 more
    b"GET http://ads.example/\n",
    // nginx, apache*, apache* proxy, haproxy* and 1 more
    b"GET http://ads.example/\r\n",
    // haproxy*, squid
    b"GET\thttp://ads.example/\r\n",
    // nginx, apache*, apache* proxy, haproxy* and 1 more
    b"GET http://ads.example/ \r\n",
    // apache*, apache* proxy
    b"POST http://ads.example/\r\n",
    // apache* proxy, squid
    b"get http://ads.example/\r\n",
    // apache*
    b"HEAD http://ads.example/\r\n",
    // apache* proxy
    b"FOO http://ads.example/\r\n",
    // waitress
    b" \r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // nginx, haproxy, haproxy*, node and 7 more
    b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // nginx, apache*, lighttpd*, haproxy and 9 more
    b"GET / HTTP/1.1\r\nHost: ads.example\n\r\n",
    // nginx, apache*, lighttpd*, haproxy and 9 more
    b"GET / HTTP/1.1\nHost: ads.example\r\n\n",
    // h11
    b"PRI * HTTP/2.0\r\n\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // caddy, h11
    b"PRI * HTTP/2.0\r\nHost: good.example\r\n\r\nGET / HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // haproxy*, node, node*, http.server and 7 more
    b"GET http://good.example/ HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // apache, apache*, haproxy*, node and 10 more
    b"GET https://good.example/ HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // haproxy*, gunicorn, waitress, werkzeug
    b"CONNECT good.example:80 HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // haproxy, haproxy*, node, node* and 7 more
    b"OPTIONS * HTTP/1.1\r\nHost: ads.example\r\n\r\n",
    // nginx, apache proxy, apache* proxy, haproxy* and 11 more
    b"OPTIONS http://ads.example HTTP/1.1\r\nHost: good.example\r\n\r\n",
];
