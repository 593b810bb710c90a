//! scratch: gate
#![allow(clippy::all, clippy::pedantic, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, clippy::allow_attributes_without_reason, missing_docs, clippy::panic)]
use facewire_domain::*; use facewire_inference::*; use facewire_vision::*; use std::path::*; use std::collections::*;
fn rt()->OnnxRuntime{OnnxRuntime::load(Path::new("/tmp/art/ort/onnxruntime/capi/libonnxruntime.so.1.31.1")).unwrap()}
fn cos(a:&[f32],b:&[f32])->f32{a.iter().zip(b).map(|(x,y)|x*y).sum()}
fn main(){
 let pack=Pack::open(Path::new("/tmp/fw/default")).unwrap(); let rt=rt(); let o=SessionOptions::default();
 let mut finder=pack.finder(&rt,&o).unwrap(); let mut emb=pack.embedder(&rt,&o).unwrap();
 let data=Path::new("/work/shared/data"); let verbose=std::env::args().any(|a|a=="-v");
 let mut files:Vec<(PathBuf,String)>=vec![];
 // identity by union find
 let csv=std::fs::read_to_string(data.join("pairs/pairs.csv")).unwrap(); let mut id:HashMap<String,String>=HashMap::new();
 for l in csv.lines().skip(1){let p:Vec<&str>=l.split(',').collect(); for x in &p[..2]{id.entry(x.to_string()).or_insert(x.to_string());} if p[2]=="1"{let (a,b)=(id[p[0]].clone(),id[p[1]].clone()); for v in id.values_mut(){if *v==b{*v=a.clone()}}}}
 for f in std::fs::read_dir(data.join("pairs")).unwrap(){let n=f.unwrap().file_name().to_string_lossy().into_owned(); if !n.ends_with("csv")&&!n.starts_with("selfie"){id.entry(n.clone()).or_insert(n);}} for p in id.keys(){files.push((data.join("pairs").join(p),id[p].clone()))}
 for d in std::fs::read_dir(data.join("people/enroll")).unwrap(){let d=d.unwrap(); for f in std::fs::read_dir(d.path()).unwrap(){files.push((f.unwrap().path(),d.file_name().to_string_lossy().into_owned()))}}
 for (f,w) in [("obama_partial_face","obama"),("johnsnow_test1","kit_harington"),("obama1","obama"),("alex_lacamoire1","alex_lacamoire")]{files.push((data.join(format!("people/probe/{f}.jpg")),w.into()))}
 for f in std::fs::read_dir("/tmp/art/fr/face_recognition-1.3.0/tests/test_images").unwrap(){let f=f.unwrap().path(); if f.extension().map(|e|e=="jpg").unwrap_or(false){let w=if f.file_name().unwrap().to_string_lossy().starts_with("biden"){"biden"}else{"obama"}; files.push((f,w.into()))}}
 files.sort(); let limits=GateLimits::default();
 let imgs:Vec<(String,String,RgbImage)>=files.iter().map(|(f,w)|(f.file_name().unwrap().to_string_lossy().into_owned(),w.clone(),decode(&std::fs::read(f).unwrap(),&DecodeLimits::default()).unwrap())).collect();
 // gallery: all clean
 let mut gal=vec![]; let mut boxes=vec![]; let mut rej=0;
 for (i,(n,w,img)) in imgs.iter().enumerate(){ let ff=finder.find(img).unwrap(); 
   let big=ff.iter().max_by(|a,b|a.bbox.area().total_cmp(&b.bbox.area())).cloned();
   let s:Vec<String>=ff.iter().map(|f|{let m=measure(img,f).unwrap();format!("[{:.0}px drift {:.3} ls {:.2} blur {:.0} br {:.2} pose {:.0}/{:.0}/{:.0}]",f.bbox.width().min(f.bbox.height()),f.drift,m.quality.landmarks_score,m.quality.blur,m.quality.brightness,m.quality.pose.yaw,m.quality.pose.pitch,m.quality.pose.roll)}).collect();
   let j=if ff.len()==1{match limits.judge(&measure(img,&ff[0]).unwrap().quality){Ok(())=>String::new(),Err(r)=>{rej+=1;format!("REJ {:?}",r.detail)}}}else{rej+=1;format!("REJ n={}",ff.len())};
   if verbose||!j.is_empty(){println!("{n:28} {w:16} {}x{} {} {j}",img.width(),img.height(),s.join(" "));}
   if let Some(f)=big{ let m=measure(img,&f).unwrap(); gal.push((i,w.clone(),emb.embed(&[m.face]).unwrap().remove(0))); } boxes.push(big);
 }
 println!("clean whole images: {} rejected {rej}",imgs.len());
 for whole in [false,true]{ for cam in Camera::ALL { for mg in [0.05f32,0.2,0.5]{ if whole&&mg>0.1{continue}
  let mut reasons:BTreeMap<String,(usize,usize)>=BTreeMap::new(); let (mut acc,mut ok,mut wrong,mut miss)=(0,0,0,0); let mut tot=0; let mut single=0;
  for (i,(n,w,img)) in imgs.iter().enumerate(){ let Some(b)=boxes[i] else{continue};
   if !gal.iter().any(|g|g.0!=i&&&g.1==w){single+=1; }
   let src=if whole{img.clone()}else{degrade::cut_out(img,&b.bbox,mg)};
   // whole images: bring to a 1280 long side first
   let d=cam.degrade(&src,b.bbox.width().min(b.bbox.height())); tot+=1;
   let ff=finder.find(&d).unwrap();
   // right? compare to gallery: own image included for enrolled person (source image itself excluded if others exist)
   let judge=|m:&Measured,emb:&mut Box<dyn FaceEmbedder>|{let e=emb.embed(&[m.face.clone()]).unwrap().remove(0); let others=gal.iter().any(|g|g.0!=i&&&g.1==w);
     let best=gal.iter().filter(|g|if others{g.0!=i}else{true}).map(|g|(cos(&g.2,&e),&g.1)).max_by(|a,b|a.0.total_cmp(&b.0)).unwrap(); if best.0<0.36{0}else if best.1==w{1}else{2}};
   if ff.is_empty(){reasons.entry("no_face".into()).or_default().0+=1;continue}
   if ff.len()>1{ for f in &ff{println!("   multi {n} {:.0?} drift {:.3} det {:.2} of {}x{}",f.bbox,f.drift,f.detection_score,d.width(),d.height())}reasons.entry("multiple".into()).or_default().0+=1;continue}
   let m=measure(&d,&ff[0]).unwrap(); let v=judge(&m,&mut emb);
   match limits.judge(&m.quality){ Ok(())=>{acc+=1; match v{1=>ok+=1,0=>{miss+=1},_=>wrong+=1}; if v!=1{println!("   accepted bad v={v} {n} {:?} drift {:.3}",m.quality,ff[0].drift)}}
    Err(r)=>{let e=reasons.entry(format!("{}",r.detail.signal.unwrap())).or_default(); e.0+=1; if v!=1{e.1+=1}} }
  }
  println!("{} {:12} margin {mg}: n={tot} accepted {acc} right {ok} miss {miss} wrong {wrong} = {:.1}% | rejected(reason: n, of which would fail) {:?}",if whole{"whole"}else{"crop"},cam.name(),100.0*ok as f32/acc.max(1) as f32,reasons); let _=single;
 }}}

 let mut rows=vec![]; let mut br=vec![];
 for (i,(_n,w,img)) in imgs.iter().enumerate(){ let Some(b)=boxes[i] else{continue}; let side=b.bbox.width().min(b.bbox.height());
  let src0=degrade::cut_out(img,&b.bbox,0.5); let k=(160.0/side).min(1.0); let src=degrade::shrink(&src0,(src0.width() as f32*k) as u32,(src0.height() as f32*k) as u32);
  let mut go=|d:&RgbImage|->Option<(Quality,bool)>{let ff=finder.find(d).unwrap(); let f=ff.first()?; let m=measure(d,f).unwrap(); let e=emb.embed(&[m.face.clone()]).unwrap().remove(0); let others=gal.iter().any(|g|g.0!=i&&&g.1==w);
   let best=gal.iter().filter(|g|if others{g.0!=i}else{true}).map(|g|(cos(&g.2,&e),&g.1)).max_by(|a,b|a.0.total_cmp(&b.0)).unwrap(); Some((m.quality,best.0>=0.36&&best.1==w))};
  for r in [-75f32,-65.0,-55.0,-50.0,-45.0,-35.0,-25.0,25.0,35.0,45.0,50.0,55.0,65.0,75.0]{ if let Some((q,v))=go(&degrade::rotate(&src,r,1.0)){rows.push((q,v))} }
  for g in [1.5f32,2.0,3.0,4.0,6.0,9.0]{ if let Some((q,v))=go(&degrade::darken(&src,g,1.0)){br.push((q,v))} }
 }
 for w in [0.0f32,20.0,30.0,40.0,45.0,50.0,55.0,60.0,70.0,180.0].windows(2){let s:Vec<_>=rows.iter().filter(|r|r.0.landmarks_score>=0.5&&r.0.pose.roll.abs()>=w[0]&&r.0.pose.roll.abs()<w[1]).collect(); println!("roll ls>=.5 {w:?} n={} fail={}",s.len(),s.iter().filter(|r|!r.1).count())}
 for w in [0.0f32,0.5,0.6,0.7,0.75,0.8,0.85,0.9,0.95,1.01].windows(2){let s:Vec<_>=br.iter().filter(|r|r.0.brightness>=w[0]&&r.0.brightness<w[1]).collect(); println!("bright {w:?} n={} fail={}",s.len(),s.iter().filter(|r|!r.1).count())}
 for p in ["people/probe/group_t1.jpg","people/probe/kit_with_rose.jpg","people/probe/obama_and_biden.jpg","pairs/selfie-many-people.jpg","pairs/img41.jpg"]{ let img=decode(&std::fs::read(data.join(p)).unwrap(),&DecodeLimits::default()).unwrap(); println!("{p}"); for f in finder.find(&img).unwrap(){let m=measure(&img,&f).unwrap(); println!("   {:.0?} drift {:.3} {:?} -> {:?}",f.bbox,f.drift,m.quality,limits.judge(&m.quality).err().map(|r|r.detail.signal))}}
}
