package proxy

import "strconv"

// fault is why a client's connection was ended for what he sent, or did not send.
type fault uint8

const (
	faultNone       fault = iota
	faultLine             // no request line
	faultVersion          // neither HTTP/1.0 nor HTTP/1.1
	faultField            // no NAME ":" VALUE
	faultFold             // a value that goes on in the next line
	faultLineEnd          // CR or LF alone
	faultControl          // NUL or another control character
	faultHost             // two of them
	faultConnection       // takes away what says where a request ends, or whose it is
	faultLength           // two lengths, none that is a number, or one with chunks
	faultEncoding         // of the transfer, other than chunked
	faultChunk            // no chunk where one should be
	faultTrailer          // a field that must be in the head
	faultLarge            // a head or trailer beyond headMost
	faultTime             // a head took too long
	faultCrowd            // took too long for the number of those who wait
	faults                // how many there are
)

// String is the reason's name in counters.
func (f fault) String() string {
	return [...]string{
		faultNone: "http_none", faultLine: "http_line", faultVersion: "http_version", faultField: "http_field", faultFold: "http_fold",
		faultLineEnd: "http_line_end", faultControl: "http_control", faultHost: "http_host", faultConnection: "http_connection",
		faultLength: "http_length", faultEncoding: "http_encoding", faultChunk: "http_chunk", faultTrailer: "http_trailer",
		faultLarge: "http_large", faultTime: "http_timeout", faultCrowd: "http_crowded",
	}[f]
}

// cause is why a connection with it has ended.
func (f fault) cause() Cause {
	switch f {
	case faultTime:
		return RequestTimeout
	case faultCrowd:
		return RequestCrowded
	}
	return BadRequest
}

// Error lets a fault travel as an error.
func (f fault) Error() string { return f.String() }

// answer is what a client is told.
func (f fault) answer() string {
	status, why := "400 Bad Request", [...]string{
		faultLine:       "no request line METHOD TARGET HTTP/1.1",
		faultField:      "a line of the head is not NAME: VALUE",
		faultFold:       "a value goes on in the next line",
		faultLineEnd:    "a line of the head does not end with CR LF",
		faultControl:    "a control character in the head",
		faultHost:       "Host is there twice",
		faultConnection: "Connection names a field that is not for the next hop alone",
		faultLength:     "where the body ends is not certain",
		faultEncoding:   "Transfer-Encoding is not chunked",
		faultVersion:    "HTTP/1.0 and HTTP/1.1 are spoken here",
		faultLarge:      "the head is too large",
		faultTime:       "the head took too long",
		faults:          "",
	}[f]
	switch f {
	case faultVersion:
		status = "505 HTTP Version Not Supported"
	case faultLarge:
		status = "431 Request Header Fields Too Large"
	case faultTime:
		status = "408 Request Timeout"
	}
	if why == "" {
		return ""
	}
	return "HTTP/1.1 " + status + "\r\nContent-Type: text/plain\r\nContent-Length: " + strconv.Itoa(len(why)+1) + "\r\nConnection: close\r\n\r\n" + why + "\n"
}
